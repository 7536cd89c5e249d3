"""Tests of the dispatcher: when it looks, and when it sends no requests."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any, cast
from uuid import uuid4

import pytest

from taskd.domain.band import BANDS, Band, Credit
from taskd.domain.errors import TransportUnavailable
from taskd.domain.fencing import Dispatch, Term
from taskd.runtime import pace
from taskd.runtime.outage import Outage
from taskd.scheduler import dispatcher as module
from taskd.scheduler.dispatcher import Dispatcher
from taskd.seams import DispatchBatch
from taskd.settings import SchedulerSettings

TERM = Term(1, uuid4())


class Recorder:
    """Recording seams of a dispatcher, and a fleet of one queue with 4 slots."""

    def __init__(self, *, depth: int = 0, away: bool = False) -> None:
        self.slots = {"q": 4}
        self.depth = depth
        self.away = away
        self.asked: list[Sequence[Credit]] = []
        self.looks = 0

    async def ping(self) -> None:
        self.looks += 1
        if self.away:
            raise TransportUnavailable("away")

    async def depths(self, queues: Collection[str]) -> dict[tuple[str, Band], int]:
        await self.ping()
        return {(queue, band): self.depth for queue in queues for band in BANDS}

    async def ring(self, dispatches: Sequence[Dispatch]) -> None:
        await self.ping()

    async def dispatch(self, term: Term, credit: Sequence[Credit], ageing: float) -> DispatchBatch:
        self.asked.append(credit)
        return DispatchBatch([], None)


async def rounds(recorder: Recorder, turns: int = 200) -> None:
    """Run a dispatcher for so many turns of the event loop, and wake it in each."""
    wakeup = asyncio.Event()
    seams = cast("Any", recorder)
    dispatcher = Dispatcher(seams, seams, seams, SchedulerSettings(), wakeup=wakeup, redis=Outage("Redis"))
    running = asyncio.create_task(dispatcher.run(TERM))
    for _ in range(turns):
        wakeup.set()
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait({running})


@pytest.fixture(autouse=True)
def long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses longer than any test, so that a second call shows that there was no pause."""
    monkeypatch.setattr(module, "OUTAGE", 3600.0)
    monkeypatch.setattr(pace, "PACE", 0.0)


async def test_a_redis_that_is_away_is_not_asked_again_at_each_wakeup() -> None:
    recorder = Recorder(away=True)
    await rounds(recorder)
    assert recorder.looks == 1


async def test_each_wakeup_is_followed_by_a_look_while_there_is_room() -> None:
    recorder = Recorder()
    await rounds(recorder)
    assert len(recorder.asked) > 10


async def test_postgresql_is_not_asked_for_jobs_without_room() -> None:
    recorder = Recorder(depth=4)
    await rounds(recorder)
    assert recorder.looks > 1
    assert recorder.asked == []
