"""Firing schedules, for the leader of shard 0."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from taskd.domain.claim import Term
from taskd.domain.errors import NotLeader
from taskd.domain.schedule import Decision, Due, Missed
from taskd.domain.ticks import Rule
from taskd.seams import Fired, Look
from taskd.store.lane import Lane
from taskd.store.statements import statement
from taskd.store.terms import fence

DUE = statement("due_schedules")
FIRE = statement("fire")
FIRE_WAITING = statement("fire_waiting")
FORGET = statement("forget_fires")


class PostgresTicks:
    """Implements `taskd.seams.Ticks`."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def due(self, limit: int, without: Collection[str]) -> Look:
        """Schedules whose next tick has come or was not worked out yet, without those of some names."""
        rows = await self._lane.fetch(DUE, {"limit": limit, "without": sorted(without)})
        now, next_in, waiting = rows[0][:3]
        return Look(
            now,
            [
                Due(
                    name,
                    Rule(cron=cron, every=every, tz=tz),
                    Missed(missed),
                    catch_up,
                    revision,
                    anchor,
                    decided_until,
                )
                for _, _, _, name, cron, every, tz, missed, catch_up, revision, anchor, decided_until in rows
                if name is not None
            ],
            next_in,
            waiting,
        )

    async def fire(self, term: Term, decisions: Sequence[Decision]) -> Fired:
        """Make the jobs of ticks that nobody decided before, in one transaction. Raises NotLeader."""
        document = msgspec.json.encode(decisions).decode()
        ((held, jobs, waiting, skipped),) = await self._lane.fetch(FIRE, fence(term) | {"decisions": document})
        if not held:
            raise NotLeader(f"epoch {term.epoch} is over")
        return Fired(jobs, waiting, skipped)

    async def fire_waiting(self, term: Term, limit: int) -> int:
        """Make the jobs of waiting ticks whose schedule has no live job any more. Raises NotLeader."""
        ((held, jobs),) = await self._lane.fetch(FIRE_WAITING, fence(term) | {"limit": limit})
        if not held:
            raise NotLeader(f"epoch {term.epoch} is over")
        return int(jobs)

    async def forget(self, term: Term, keep: float, limit: int) -> int:
        """Delete a page of ticks that were decided more than `keep` seconds ago. Raises NotLeader."""
        ((held, gone),) = await self._lane.fetch(FORGET, fence(term) | {"keep": keep, "limit": limit})
        if not held:
            raise NotLeader(f"epoch {term.epoch} is over")
        return int(gone)
