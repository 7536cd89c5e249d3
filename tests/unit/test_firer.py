"""Tests of the firer: the times at which it looks for due schedules."""

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


class FakeSchedules:
    """Store with one schedule that is always due and whose row is locked. Ends the duty at its third look."""

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
        return Fired(0, 0, 0, tuple(decision.edition for decision in decisions))

    async def close(self, term: Term, after: Mark, limit: int) -> Closed:
        return Closed(0, START, False)

    async def forget(self, term: Term, keep: float, limit: int) -> int:
        return 0


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the duty waited between its looks. Only these waits move the clock."""
    waited: list[float] = []

    async def wait_for(event: asyncio.Event, seconds: float) -> bool:
        waited.append(seconds)
        return event.is_set()

    monkeypatch.setattr(module, "wait_for", wait_for)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: sum(waited)))
    return waited


async def run(schedules: FakeSchedules) -> None:
    with pytest.raises(NotLeader):
        await Firer(cast("Any", schedules), postgres=Outage("PostgreSQL"), wake=lambda: None).run(TERM)


async def test_a_locked_schedule_is_left_out_for_a_while(waits: list[float]) -> None:
    """Otherwise it would be due at each look, and the looks would follow each other without a pause."""
    schedules = FakeSchedules()
    await run(schedules)
    assert schedules.without == [set(), {LOCKED.edition}, set()]
    assert waits == [module.SOON, module.EVERY]


async def test_while_all_schedules_are_paused_looks_go_on(waits: list[float]) -> None:
    """Another scheduler may resume one."""

    class PausedSchedules(FakeSchedules):
        async def due(self, limit: int, without: Collection[Edition]) -> DueSchedules:
            await super().due(limit, without)
            return DueSchedules(NOW, [], None, False, some=len(self.without) == 1)

    await run(PausedSchedules())
    assert waits == [module.EVERY, module.CALM]
