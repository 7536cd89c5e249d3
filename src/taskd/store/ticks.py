"""Firing of schedules, for the leader of shard 0."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from taskd.domain.fencing import Term
from taskd.domain.schedule import Decision, Due, Edition, Mark, Missed
from taskd.domain.ticks import TickRule
from taskd.seams import Closed, DueSchedules, Fired
from taskd.store.lane import Lane, Row
from taskd.store.statements import statement
from taskd.store.terms import fetch_fenced

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
        parameters = {
            "without": [edition.name for edition in without],
            "revisions": [edition.revision for edition in without],
            "limit": limit,
        }
        rows = await self._lane.fetch(DUE, parameters)
        now, next_in, waiting, some = rows[0][:4]
        return DueSchedules(now, [_due(*row[4:]) for row in rows if row[4] is not None], next_in, waiting, some)

    async def rework(self, term: Term) -> None:
        await self._write(REWORK, term, {})

    async def fire(self, term: Term, decisions: Sequence[Decision]) -> Fired:
        document = msgspec.json.encode(decisions).decode()
        jobs, waiting, skipped, decided = await self._write(FIRE, term, {"decisions": document})
        left = tuple(decision.edition for decision in decisions if decision.name not in decided)
        return Fired(jobs, waiting, skipped, left)

    async def fire_waiting(self, term: Term, limit: int) -> int:
        (jobs,) = await self._write(FIRE_WAITING, term, {"limit": limit})
        return int(jobs)

    async def close(self, term: Term, after: Mark, limit: int) -> Closed:
        page = {"name": after.schedule, "fire_at": after.fire_at, "limit": limit}
        closed, seen, *last = await self._write(CLOSE, term, page)
        return Closed(closed, Mark(*last) if seen else after, seen == limit)

    async def forget(self, term: Term, keep: float, limit: int) -> int:
        (deleted,) = await self._write(FORGET, term, {"keep": keep, "limit": limit})
        return int(deleted)

    async def _write(self, text: str, term: Term, parameters: Mapping[str, Any]) -> Row:
        """Run a fenced statement; return its one row without the first column. Raises NotLeader."""
        (row,) = await fetch_fenced(self._lane, text, term, parameters)
        return row[1:]


def _due(name: str, cron: str | None, every: float | None, tz: str, missed: str, *rest: Any) -> Due:
    catch_up, revision, anchor, decided_until = rest
    return Due(name, TickRule(cron=cron, every=every, tz=tz), Missed(missed), catch_up, revision, anchor, decided_until)
