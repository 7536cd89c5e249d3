"""Dispatches: jobs move between pending and queued."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from taskd.domain.band import Credit
from taskd.domain.fencing import Dispatch, Term
from taskd.runtime import meters
from taskd.seams import DispatchBatch
from taskd.store.lane import Lane, int_array
from taskd.store.statements import statement
from taskd.store.terms import fetch_fenced

DISPATCH = statement("dispatch")
UNCLAIMED = statement("unclaimed")
REOFFER = statement("reoffer")


class PostgresDispatching:
    """Implements `taskd.seams.Dispatching`; its lane may be RELAXED."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def dispatch(self, term: Term, credit: Sequence[Credit], ageing: float) -> DispatchBatch:
        demand = [{"queue": c.queue, "low": c.band.low, "high": c.band.high, "credit": c.jobs} for c in credit]
        document = msgspec.json.encode(demand).decode()
        parameters = {"shards": term.shards, "credit": document, "ageing": ageing}
        rows = await fetch_fenced(self._lane, DISPATCH, term, parameters)
        _, next_due, lag = rows[0][:3]
        if lag is not None:
            meters.LAG.observe(max(0.0, lag))
        return DispatchBatch([Dispatch(*row[3:]) for row in rows if row[3] is not None], next_due)

    async def unclaimed(self, term: Term, after: float, limit: int, skip: int = 0) -> list[Dispatch]:
        parameters = {"shard": term.shard, "shards": term.shards, "after": after, "limit": limit, "skip": skip}
        rows = await self._lane.fetch(UNCLAIMED, parameters)
        return [Dispatch(*row) for row in rows]

    async def reoffer(self, term: Term, lost: Sequence[Dispatch]) -> int:
        ordered = sorted(lost, key=lambda d: d.job_id)
        parameters = {
            "shards": term.shards,
            "ids": int_array(d.job_id for d in ordered),
            "seqs": int_array(d.seq for d in ordered),
        }
        ((_, moved),) = await fetch_fenced(self._lane, REOFFER, term, parameters)
        return int(moved)
