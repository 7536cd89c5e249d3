"""Tests of the pruner's walk: on from where it met young jobs, and from the beginning now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, cast
from uuid import uuid4

import pytest

from taskd.domain.errors import StoreUnavailable
from taskd.domain.fencing import Term
from taskd.domain.job import JobStatus
from taskd.runtime.config import Config
from taskd.runtime.outage import Outage
from taskd.scheduler import pruner as module
from taskd.scheduler.pruner import Pruner
from taskd.seams import Pruned
from taskd.settings import HistorySettings as Settings

TERM = Term(1, uuid4())


class FakePruning:
    """Fake store of jobs with the ids 1, 2, 3 ..., some of them old. Records the calls."""

    def __init__(self, jobs: int = 0, old: Iterable[int] = ()) -> None:
        self.jobs = jobs
        self.old = set(old)
        self.asked: list[tuple[JobStatus, float, int]] = []
        self.failure: Exception | None = None

    async def prune(self, term: Term, status: JobStatus, keep: float, after: int, limit: int) -> Pruned:
        self.asked.append((status, keep, after))
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        if status is not JobStatus.COMPLETED:
            return Pruned(0, 0, after)
        page = range(after + 1, min(after + limit, self.jobs) + 1)
        old = [job for job in page if job in self.old]
        self.old -= set(old)
        return Pruned(deleted=len(old), seen=len(page), last=page[-1] if page else after)

    async def forget_logs(self, term: Term, after: int, limit: int) -> int | None:
        return None

    def walk(self) -> list[int]:
        return [after for status, _, after in self.asked if status is JobStatus.COMPLETED]


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY", 0.0)
    monkeypatch.setattr(module, "PAUSE", 0.0)
    monkeypatch.setattr(module, "PAGE", 10)


async def asked(store: FakePruning, times: int) -> Pruner:
    pruner = Pruner(cast("Any", store), Settings(), config=Config(), postgres=Outage("PostgreSQL"))
    running = asyncio.create_task(pruner.run(TERM))
    while len(store.asked) < times:
        assert not running.done()
        await asyncio.sleep(0)
    running.cancel()
    return pruner


async def test_each_status_is_asked_for_with_its_time() -> None:
    store = FakePruning()
    await asked(store, 3)
    assert {status: keep for status, keep, _ in store.asked} == {
        JobStatus.COMPLETED: 7 * 86_400.0,
        JobStatus.FAILED: 30 * 86_400.0,
        JobStatus.CANCELLED: 30 * 86_400.0,
    }


async def test_the_first_round_goes_to_the_end_and_later_ones_on_from_the_first_young_page() -> None:
    store = FakePruning(45, range(1, 16))
    pruner = await asked(store, 12)
    assert store.walk()[:7] == [0, 10, 20, 30, 40, 20, 20]
    assert pruner.pruned == 15


async def test_old_jobs_behind_young_ones_are_found_by_a_round_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs with low ids that ended late, because they were delayed, stand before others that are old by now."""
    store = FakePruning(60, range(41, 51))
    await asked(store, 8)
    assert store.old == set()
    store.old = set(range(31, 41))
    await asked(store, len(store.asked) + 8)
    assert store.old == set()


async def test_an_outage_is_no_end() -> None:
    store = FakePruning()
    store.failure = StoreUnavailable("away")
    await asked(store, 5)
