"""Tests of the reaper: when it looks for expired sessions, and when it gives them time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest
import structlog

from taskd.domain.fencing import Term
from taskd.runtime.outage import Outage
from taskd.scheduler import reaper as module
from taskd.scheduler.reaper import Reaper
from taskd.seams import Reaped

TERM = Term(1, uuid4())
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class FakeReaping:
    """Fake store with a clock of its own. Records the time before which each look ends sessions."""

    def __init__(self) -> None:
        self.asked: list[datetime | None] = []
        self.looks = 0
        self.jump = timedelta()

    async def end_expired(self, term: Term, before: datetime | None) -> tuple[list[str], datetime]:
        self.asked.append(before)
        return [], NOON + self.jump + len(self.asked) * timedelta(microseconds=1)

    async def free_jobs(self, term: Term, lone_loss_limit: int) -> Reaped:
        self.looks += 1
        return Reaped(0, 0)


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY", 0.0)


async def looks(store: FakeReaping, lease: float, number: int, jump_at: int = -1) -> None:
    each = cast("Any", store)
    reaper = Reaper(each, lease=lease, postgres=Outage("PostgreSQL"), wake=lambda: None)
    running = asyncio.create_task(reaper.run(TERM))
    while store.looks < number:
        if store.looks == jump_at:
            store.jump = timedelta(hours=1)
        await asyncio.sleep(0)
    running.cancel()


async def test_no_session_is_ended_before_a_lease_has_passed() -> None:
    store = FakeReaping()
    await looks(store, lease=3600.0, number=5)
    assert set(store.asked) == {None}


async def test_expired_means_before_the_previous_look() -> None:
    store = FakeReaping()
    await looks(store, lease=0.0, number=3)
    assert store.asked[0] is None
    assert store.asked[1] == NOON + timedelta(microseconds=1)


async def test_a_clock_that_jumps_ahead_ends_no_session() -> None:
    """All leases seem to have run out at once. A live worker renews within one lease, by the new clock."""
    store = FakeReaping()
    await looks(store, lease=0.0, number=8, jump_at=3)
    jumped = [before for before in store.asked if before is not None and before >= NOON + timedelta(hours=1)]
    first = store.asked.index(jumped[0])
    assert store.asked[first - 1] is None  # the look after the jump only asked for the time


async def test_a_jump_while_workers_have_time_gives_them_a_whole_lease_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now, store = 1000.0, FakeReaping()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    reaper = Reaper(cast("Any", store), lease=15.0, postgres=Outage("PostgreSQL"), wake=lambda: None)
    running = asyncio.create_task(reaper.run(TERM))
    await _more_looks(store, 3)
    now += 14.0
    store.jump = timedelta(hours=1)
    await _more_looks(store, 3)
    now += 14.0  # beyond the time of the first lease, within that of the second
    store.jump += timedelta(seconds=14)
    await _more_looks(store, 3)
    assert set(store.asked) == {None}
    now += 2.0
    await _more_looks(store, 3)
    assert store.asked[-1] is not None
    running.cancel()


async def _more_looks(store: FakeReaping, number: int) -> None:
    goal = store.looks + number
    for _ in range(1000):
        if store.looks >= goal:
            return
        await asyncio.sleep(0)
    raise AssertionError("the reaper does not look")


async def test_jobs_of_sessions_that_ended_before_are_logged_without_an_empty_list_of_workers() -> None:
    class Later(FakeReaping):
        async def free_jobs(self, term: Term, loss_limit: int) -> Reaped:
            self.looks += 1
            return Reaped(2, 1)

    with structlog.testing.capture_logs() as lines:
        await looks(Later(), lease=3600.0, number=2)
    assert {"event": "restarted jobs of lost workers", "jobs": 2, "failed": 1, "log_level": "warning"} in lines
