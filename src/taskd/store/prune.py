"""Pruning: finished jobs are deleted when they have been kept long enough."""

from __future__ import annotations

from taskd.domain.fencing import Term
from taskd.domain.job import JobStatus
from taskd.seams import Pruned
from taskd.store.lane import Lane
from taskd.store.statements import statement
from taskd.store.terms import fetch_fenced

PRUNE = statement("prune")
FORGET_LOGS = statement("forget_logs")


class PostgresPruning:
    """Implements `taskd.seams.Pruning`."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def prune(self, term: Term, status: JobStatus, keep: float, after: int, limit: int) -> Pruned:
        parameters = {"status": status.value, "keep": keep, "after": after, "limit": limit}
        ((_, deleted, seen, last),) = await fetch_fenced(self._lane, PRUNE, term, parameters)
        return Pruned(deleted=deleted, seen=seen, last=last if last is not None else after)

    async def forget_logs(self, term: Term, after: int, limit: int) -> int | None:
        ((_, last),) = await fetch_fenced(self._lane, FORGET_LOGS, term, {"after": after, "limit": limit})
        return int(last) if last is not None else None
