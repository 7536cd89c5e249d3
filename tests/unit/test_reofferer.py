"""Tests of the search for lost doorbells among queued jobs whose entries are there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast
from uuid import uuid4

import pytest

from taskd.domain.fencing import Dispatch, Term
from taskd.runtime.outage import Outage
from taskd.scheduler import reofferer as module
from taskd.scheduler.reofferer import Reofferer

TERM = Term(1, uuid4())


class FakeStore:
    """Fake store and Redis: jobs that were queued long ago, oldest first, with the entries of all but the lost ones."""

    def __init__(self, jobs: int, lost: set[int]) -> None:
        self.jobs = [Dispatch(n, 1, "q", 0) for n in range(1, jobs + 1)]
        self.lost = lost
        self.reoffered: list[int] = []
        self.looks = 0

    async def incarnation(self) -> str:
        return "one"

    async def unclaimed(self, term: Term, after: float, limit: int, skip: int = 0) -> list[Dispatch]:
        self.looks += 1
        return self.jobs[skip : skip + limit]

    async def missing(self, dispatches: Sequence[Dispatch]) -> list[Dispatch]:
        return [dispatch for dispatch in dispatches if dispatch.job_id in self.lost]

    async def reoffer(self, term: Term, lost: Sequence[Dispatch]) -> int:
        self.reoffered += [dispatch.job_id for dispatch in lost]
        self.jobs = [dispatch for dispatch in self.jobs if dispatch not in lost]
        return len(lost)


@pytest.mark.parametrize(("jobs", "lost"), [(5, {2}), (35, {31}), (35, {1, 15, 35}), (40, set(range(1, 41)))])
async def test_lost_doorbells_behind_many_that_are_there_are_found(
    jobs: int, lost: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries of a paused queue stay until a worker reads them."""
    monkeypatch.setattr(module, "BATCH", 10)
    store = FakeStore(jobs, lost)
    each = cast("Any", store)
    wakeup = asyncio.Event()
    reofferer = Reofferer(each, each, after=3.0, ringing=asyncio.Lock(), wakeup=wakeup, redis=Outage("Redis"))
    running = asyncio.create_task(reofferer.run(TERM))
    await wakeup.wait()
    while len(store.reoffered) < len(lost):
        assert not running.done()
        await asyncio.sleep(0)
    running.cancel()
    assert sorted(store.reoffered) == sorted(lost)
    assert reofferer.reoffered == len(lost)
