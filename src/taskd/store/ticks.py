"""Firing schedules, for the leader of shard 0."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from taskd.domain.errors import NotLeader
from taskd.domain.fencing import Term
from taskd.domain.schedule import Decision, Due, Edition, Mark, Missed
from taskd.domain.ticks import TickRule
from taskd.seams import Closed, DueSchedules, Fired
from taskd.store.lane import Lane, Row
from taskd.store.statements import statement
from taskd.store.terms import fence

DUE = statement("due_schedules")
REWORK = statement("rework_schedules")
FIRE = statement("fire")
FIRE_WAITING = statement("fire_waiting")
CLOSE = statement("close_fires")
FORGET = statement("forget_fires")


class PostgresTicks:
    """Implements `taskd.seams.Ticks`."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def due(self, limit: int, without: Collection[Edition]) -> DueSchedules:
        """Schedules whose next tick has come or was not worked out yet, without some."""
        left_out = {"without": [one.name for one in without], "revisions": [one.revision for one in without]}
        rows = await self._lane.fetch(DUE, left_out | {"limit": limit})
        now, next_in, waiting, some = rows[0][:4]
        return DueSchedules(now, [_due(*row[4:]) for row in rows if row[4] is not None], next_in, waiting, some)

    async def rework(self, term: Term) -> None:
        """Let the next ticks of schedules in time zones be worked out anew. Raises NotLeader."""
        await self._write(REWORK, term, {})

    async def fire(self, term: Term, decisions: Sequence[Decision]) -> Fired:
        """Make the jobs of ticks that nobody decided before, in one transaction. Raises NotLeader."""
        document = msgspec.json.encode(decisions).decode()
        jobs, waiting, skipped, decided = await self._write(FIRE, term, {"decisions": document})
        left = tuple(one.edition for one in decisions if one.name not in decided)
        return Fired(jobs, waiting, skipped, left)

    async def fire_waiting(self, term: Term, limit: int) -> int:
        """Make the jobs of waiting ticks whose schedule has no live job any more. Raises NotLeader."""
        (jobs,) = await self._write(FIRE_WAITING, term, {"limit": limit})
        return int(jobs)

    async def close(self, term: Term, after: Mark, limit: int) -> Closed:
        """Close the ticks of one page whose jobs have ended. Raises NotLeader."""
        page = {"name": after.schedule, "fire_at": after.fire_at, "limit": limit}
        closed, seen, *last = await self._write(CLOSE, term, page)
        return Closed(closed, Mark(*last) if seen else after, seen == limit)

    async def forget(self, term: Term, keep: float, limit: int) -> int:
        """Delete a page of ticks that were decided more than `keep` seconds ago. Raises NotLeader."""
        (gone,) = await self._write(FORGET, term, {"keep": keep, "limit": limit})
        return int(gone)

    async def _write(self, text: str, term: Term, parameters: Mapping[str, Any]) -> Row:
        """What a fenced statement says, behind whether its term held."""
        ((held, *said),) = await self._lane.fetch(text, {**fence(term), **parameters})
        if not held:
            raise NotLeader(f"epoch {term.epoch} is over")
        return tuple(said)


def _due(name: str, cron: str | None, every: float | None, tz: str, missed: str, *rest: Any) -> Due:
    catch_up, revision, anchor, decided_until = rest
    return Due(name, TickRule(cron=cron, every=every, tz=tz), Missed(missed), catch_up, revision, anchor, decided_until)
