"""Test a worker's attempts: their output reaches PostgreSQL, whatever happens to their ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
import pytest

from taskd.domain.errors import Rejected
from taskd.domain.fencing import Claim, Delivery
from taskd.domain.job import AttemptId
from taskd.domain.outcome import Completed, Failed, Outcome
from taskd.domain.output import Chunk, Output
from taskd.seams import Settlement
from taskd.worker.attempts import Attempts
from taskd.worker.pool.pool import EndedAttempt
from tests.unit.claims import claim
from tests.unit.test_logs import chunk

DONE = Completed(msgspec.Raw(b"1"))


class FakeStore:
    """Fake store that settles attempts and stores output. Jobs in `over` have ended; those in `refuses` are refused."""

    def __init__(self) -> None:
        self.settled: dict[int, Settlement] = {}
        self.written: list[tuple[int, int]] = []
        self.over: dict[int, str] = {}
        self.refuses: set[int] = set()

    async def claim(self, session: Any, deliveries: Sequence[Any], *, again: bool, alone: bool) -> list[Claim]:
        return [claim(delivery.job_id) for delivery in deliveries]

    async def settle(self, settlements: Sequence[Settlement]) -> set[AttemptId]:
        if any(s.claim.job_id in self.refuses and (s.output or s.outcome == DONE) for s in settlements):
            raise Rejected("no")
        held = [s for s in settlements if s.claim.job_id not in self.over]
        self.settled |= {s.claim.job_id: s for s in held}
        return {s.claim.attempt_id for s in held}

    async def outcomes(self, refused: Collection[AttemptId]) -> dict[AttemptId, str]:
        return {attempt_id: self.over[attempt_id.job_id] for attempt_id in refused if self.over.get(attempt_id.job_id)}

    async def write(self, outputs: Sequence[Output]) -> set[AttemptId]:
        self.written += [(output.job_id, chunk.line) for output in outputs for chunk in output.chunks]
        return {AttemptId(output.job_id, output.attempt) for output in outputs}


class FakeExecutors:
    """Fake pool of executors that begins nothing."""

    tasks = ("t",)

    def begin(self, orders: object) -> None: ...


def ended(job_id: int, outcome: Outcome, output: Chunk | None) -> EndedAttempt:
    return EndedAttempt(AttemptId(job_id, 1), outcome, output)


@asynccontextmanager
async def working(store: FakeStore, jobs: int) -> AsyncIterator[Attempts]:
    seams = cast(Any, store)
    attempts = Attempts(
        *(seams, seams, seams, seams, seams),
        worker_id="w",
        slots=10,
        max_log_bytes=1000,
        executors=lambda on_end, on_message: cast(Any, FakeExecutors()),
    )
    duties = [asyncio.create_task(duty) for duty in (attempts.settle(), attempts.logs.write())]
    await attempts.accept(seams, [Delivery(n, 1, "", "") for n in range(1, jobs + 1)], again=False)
    try:
        yield attempts
    finally:
        for duty in duties:
            duty.cancel()
        await asyncio.wait(duties)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


async def test_output_that_comes_with_the_end_costs_no_statement_of_its_own(store: FakeStore) -> None:
    async with working(store, 2) as attempts:
        attempts.on_end([ended(1, DONE, chunk(1, 1)), ended(2, DONE, None)])
        await asyncio.wait_for(attempts.idle(), 10)
    assert {job_id: s.output for job_id, s in store.settled.items()} == {1: chunk(1, 1), 2: None}
    assert store.written == []


async def test_output_that_follows_other_output_is_written_in_order_before_the_end(store: FakeStore) -> None:
    async with working(store, 1) as attempts:
        attempts.on_message(chunk(1, 1), lambda _: None)
        attempts.on_end([ended(1, DONE, chunk(1, 2))])
        await asyncio.wait_for(attempts.idle(), 10)
    assert store.written == [(1, 1), (1, 2)]
    assert store.settled[1].output is None


async def test_the_output_of_a_refused_end_is_kept_if_the_job_was_cancelled_and_dropped_if_the_claim_was_lost(
    store: FakeStore,
) -> None:
    store.over = {1: "cancelled", 2: ""}
    async with working(store, 2) as attempts:
        attempts.on_end([ended(1, DONE, chunk(1, 1)), ended(2, DONE, chunk(2, 1))])
        await asyncio.wait_for(attempts.idle(), 10)
    assert store.written == [(1, 1)]


async def test_output_of_a_job_that_its_own_transaction_completed_is_written(store: FakeStore) -> None:
    async with working(store, 1) as attempts:
        attempts.on_end([ended(1, Completed(msgspec.Raw(b"null"), recorded=True), chunk(1, 1))])
        await asyncio.wait_for(attempts.idle(), 10)
    assert store.written == [(1, 1)]
    assert store.settled == {}


async def test_an_end_that_postgresql_refuses_is_tried_without_its_output_which_is_kept(store: FakeStore) -> None:
    store.refuses = {2}
    async with working(store, 3) as attempts:
        attempts.on_end([ended(n, DONE, chunk(n, 1)) for n in (1, 2, 3)])
        await asyncio.wait_for(attempts.idle(), 10)
    assert store.written == [(2, 1)]
    assert {n: s.output for n, s in store.settled.items()} == {1: chunk(1, 1), 2: None, 3: chunk(3, 1)}
    assert isinstance(store.settled[2].outcome, Failed)
