"""How the pruner walks: on from where it met young jobs, and from the beginning now and then."""

from __future__ import annotations

import asyncio
from typing import Any, cast
from uuid import uuid4

import pytest

from taskd.domain.claim import Term
from taskd.domain.errors import StoreUnavailable
from taskd.domain.job import JobStatus
from taskd.runtime.live import Live
from taskd.runtime.outage import Outage
from taskd.scheduler import pruner as module
from taskd.scheduler.pruner import Pruner
from taskd.seams import Pruned
from taskd.settings import History as Settings

TERM = Term(1, uuid4())


class History:
    """So many old jobs, then young ones, with the ids 1, 2, 3 ...; it remembers what it was asked."""

    def __init__(self, old: int) -> None:
        self.old = old
        self.asked: list[tuple[JobStatus, float, int]] = []
        self.failure: Exception | None = None

    async def prune(self, term: Term, status: JobStatus, keep: float, after: int, limit: int) -> Pruned:
        self.asked.append((status, keep, after))
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        if status is not JobStatus.COMPLETED:
            return Pruned(0, 0, after)
        last = after + limit
        return Pruned(deleted=max(0, min(self.old, last) - after), seen=limit, last=last)

    def walk(self) -> list[int]:
        return [after for status, _, after in self.asked if status is JobStatus.COMPLETED]


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY", 0.0)
    monkeypatch.setattr(module, "PAUSE", 0.0)
    monkeypatch.setattr(module, "PAGE", 10)


async def asked(history: History, times: int) -> Pruner:
    pruner = Pruner(cast("Any", history), Settings(), live=Live(), postgres=Outage("PostgreSQL"))
    running = asyncio.create_task(pruner.run(TERM))
    while len(history.asked) < times:
        assert not running.done()
        await asyncio.sleep(0)
    running.cancel()
    return pruner


async def test_each_status_is_asked_for_with_its_time() -> None:
    history = History(0)
    await asked(history, 3)
    assert {status: keep for status, keep, _ in history.asked} == {
        JobStatus.COMPLETED: 7 * 86_400.0,
        JobStatus.FAILED: 30 * 86_400.0,
        JobStatus.CANCELLED: 30 * 86_400.0,
    }


async def test_it_walks_until_nothing_is_old_and_goes_on_from_there() -> None:
    history = History(25)
    pruner = await asked(history, 12)
    assert history.walk()[:5] == [0, 10, 20, 30, 30]
    assert pruner.pruned == 25


async def test_it_starts_over_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AFRESH_EVERY", 0.0)
    history = History(15)
    await asked(history, 12)
    assert history.walk()[:6] == [0, 10, 20, 0, 10, 20]


async def test_an_outage_is_no_end() -> None:
    history = History(0)
    history.failure = StoreUnavailable("away")
    await asked(history, 5)
