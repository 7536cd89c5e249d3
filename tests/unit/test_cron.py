"""When the duty that fires schedules looks again."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest

from taskd.domain.errors import NotLeader
from taskd.domain.fencing import Term
from taskd.domain.schedule import START, Decision, Due, Edition, Mark, Missed
from taskd.domain.ticks import TickRule
from taskd.runtime.outage import Outage
from taskd.scheduler import firer as module
from taskd.scheduler.firer import Firer
from taskd.seams import Closed, DueSchedules, Fired

TERM = Term(1, uuid4())
NOW = datetime(2026, 1, 31, tzinfo=UTC)
LOCKED = Due("locked", TickRule(every=1.0), Missed.SKIP, 1, 7, NOW - timedelta(seconds=5), NOW - timedelta(seconds=2))


class Locked:
    """One schedule that is always due, and whose row somebody has locked. The duty ends with its third look."""

    def __init__(self) -> None:
        self.without: list[set[Edition]] = []

    async def rework(self, term: Term) -> None:
        assert self.without == []

    async def due(self, limit: int, without: Collection[Edition]) -> DueSchedules:
        self.without.append(set(without))
        if len(self.without) == 3:
            raise NotLeader("that was enough")
        return DueSchedules(NOW, [] if LOCKED.edition in without else [LOCKED], None, False, True)

    async def fire(self, term: Term, decisions: Sequence[Decision]) -> Fired:
        return Fired(0, 0, 0, tuple(one.edition for one in decisions))

    async def close(self, term: Term, after: Mark, limit: int) -> Closed:
        return Closed(0, START, False)

    async def forget(self, term: Term, keep: float, limit: int) -> int:
        return 0


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the duty waited between its looks, on a clock that goes on by that only."""
    found: list[float] = []

    async def wait_for(event: asyncio.Event, seconds: float) -> bool:
        found.append(seconds)
        return event.is_set()

    monkeypatch.setattr(module, "wait_for", wait_for)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: sum(found)))
    return found


async def run(ticks: Locked) -> None:
    with pytest.raises(NotLeader):
        await Firer(cast("Any", ticks), postgres=Outage("PostgreSQL"), wake=lambda: None).run(TERM)


async def test_what_somebody_has_locked_is_left_out_for_a_while(waits: list[float]) -> None:
    """Else it would be due again at each look, and one look would follow the other at once."""
    ticks = Locked()
    await run(ticks)
    assert ticks.without == [set(), {LOCKED.edition}, set()]
    assert waits == [module.SOON, module.EVERY]


async def test_while_all_schedules_are_paused_looks_go_on(waits: list[float]) -> None:
    """Another scheduler may let one go on."""

    class Paused(Locked):
        async def due(self, limit: int, without: Collection[Edition]) -> DueSchedules:
            await super().due(limit, without)
            return DueSchedules(NOW, [], None, False, some=len(self.without) == 1)

    await run(Paused())
    assert waits == [module.EVERY, module.CALM]
