"""Test cancelling from each status, and against each other move while one of the two waits for the other's lock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import psycopg
import pytest

from taskd.domain.fencing import Claim, Dispatch, Session, Term
from taskd.domain.job import AttemptId, JobStatus
from taskd.domain.outcome import Failed
from taskd.domain.policy import Backoff
from taskd.seams import LostClaim
from taskd.store.cancels import PostgresCancels
from taskd.store.claims import PostgresClaims
from taskd.store.dispatch import PostgresDispatching
from taskd.store.lane import ONE_PLAN, Lane, Row
from taskd.store.reap import PostgresReaping
from tests.integration.storage import Storage, spec
from tests.servers import wait_until_async

CANCELLED = JobStatus.CANCELLED
NO_WAIT = Backoff(initial=0.0, max=0.0, jitter=False)


class OpenLane(Lane):
    """Lane whose statements stay uncommitted until `end`."""

    async def _connect(self) -> psycopg.AsyncConnection[Row]:
        connection = await super()._connect()
        await connection.set_autocommit(False)
        return connection

    async def end(self, *, commit: bool) -> None:
        assert self._connection is not None
        await (self._connection.commit() if commit else self._connection.rollback())


@dataclass
class JobCase:
    """One job, with the term and the session that may move it."""

    store: Storage
    term: Term
    session: Session
    lanes: list[Lane] = field(default_factory=list)
    dispatches: list[Dispatch] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    job_id: int = 0

    def open(self) -> tuple[OpenLane, Storage]:
        """Return a store whose moves stay uncommitted, and the lane that commits them."""
        lane = OpenLane(self.store.dsn, name="taskd:open", deadline=10.0, options=ONE_PLAN)
        self.lanes.append(lane)
        store = Storage(self.store.dsn)
        store.due = PostgresDispatching(lane)
        store.claims = PostgresClaims(lane, lane)
        store.upkeep = PostgresReaping(lane)
        store.cancels = PostgresCancels(lane, stopped=store.stopped.extend)
        return lane, store

    async def blocked(self, many: int = 1) -> None:
        """Return when `many` statements wait for a lock."""
        question = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND cardinality(pg_blocking_pids(pid)) > 0"
        )

        async def waiting() -> bool:
            return bool((await self.store.raw.fetch(question))[0][0] >= many)

        await wait_until_async(waiting)


@pytest.fixture
async def case(postgres_dsn: str) -> AsyncIterator[JobCase]:
    store = Storage(postgres_dsn)
    new_case = JobCase(store, await store.lead(), await store.work())
    yield new_case
    for lane in new_case.lanes:
        await lane.close()
    await store.close()


# ---------------------------------------------------------------- how far a job has come


async def pending(case: JobCase) -> None:
    (submitted,) = await case.store.submit(spec())
    case.job_id = submitted.id


async def queued(case: JobCase) -> None:
    await pending(case)
    case.dispatches = await case.store.dispatch(case.term)


async def running(case: JobCase) -> None:
    await queued(case)
    case.claims = await case.store.claim(case.session, case.dispatches)


async def orphaned(case: JobCase) -> None:
    await running(case)
    await case.store.sessions.end(case.session.id)


async def suspected(case: JobCase) -> None:
    """Let the job run alone, so that its next loss is the last."""
    await orphaned(case)
    await case.store.raw.fetch("UPDATE taskd.jobs SET losses = 2 RETURNING id")


# ---------------------------------------------------------------- how it moves on: True if it did


async def dispatch(store: Storage, case: JobCase) -> bool:
    return bool(await store.dispatch(case.term))


async def reoffer(store: Storage, case: JobCase) -> bool:
    return bool(await store.due.reoffer(case.term, case.dispatches))


async def claim(store: Storage, case: JobCase) -> bool:
    return bool(await store.claim(case.session, case.dispatches))


async def complete(store: Storage, case: JobCase) -> bool:
    return bool(await store.settle(case.claims))


async def retry(store: Storage, case: JobCase) -> bool:
    return bool(await store.settle(case.claims, Failed("boom")))


async def restart(store: Storage, case: JobCase) -> bool:
    return bool((await store.upkeep.free_jobs(case.term, 20)).restarted)


async def give_up(store: Storage, case: JobCase) -> bool:
    return bool((await store.upkeep.free_jobs(case.term, 1)).failed)


class Move(NamedTuple):
    """Move of a job, and the job's end if a cancel comes second: status, worker, outcomes of its attempts."""

    before: Callable[[JobCase], Awaitable[None]]
    move: Callable[[Storage, JobCase], Awaitable[bool]]
    status: JobStatus
    worker: str | None
    outcomes: list[str]


MOVES = [
    Move(pending, dispatch, CANCELLED, None, []),
    Move(queued, reoffer, CANCELLED, None, []),
    Move(queued, claim, CANCELLED, "worker-1", ["cancelled"]),
    Move(running, complete, JobStatus.COMPLETED, "worker-1", ["completed"]),
    Move(running, retry, CANCELLED, None, ["failed"]),
    Move(orphaned, restart, CANCELLED, None, ["lost"]),
    Move(suspected, give_up, JobStatus.FAILED, "worker-1", ["lost"]),
]
every_move = pytest.mark.parametrize("move", MOVES, ids=[m.move.__name__ for m in MOVES])


@every_move
async def test_a_cancel_that_waits_for_another_move_meets_the_job_where_it_is_then(case: JobCase, move: Move) -> None:
    await move.before(case)
    lane, other = case.open()
    assert await move.move(other, case)
    cancelling = asyncio.create_task(case.store.cancels.cancel([case.job_id]))
    await case.blocked()
    await lane.end(commit=True)
    assert await cancelling == ({case.job_id} if move.status is CANCELLED else set())
    job = await case.store.job(case.job_id)
    assert (job.status, job.worker_id, [a.outcome for a in job.attempts]) == (move.status, move.worker, move.outcomes)
    assert await nothing_left(case)
    await other.close()


@every_move
async def test_a_cancel_that_waits_for_a_move_that_fails_meets_the_job_where_it_was(case: JobCase, move: Move) -> None:
    await move.before(case)
    lane, other = case.open()
    assert await move.move(other, case)
    cancelling = asyncio.create_task(case.store.cancels.cancel([case.job_id]))
    await case.blocked()
    await lane.end(commit=False)
    assert await cancelling == {case.job_id}
    assert (await case.store.job(case.job_id)).status is CANCELLED
    assert await nothing_left(case)
    await other.close()


@every_move
async def test_a_move_that_waits_for_a_cancel_does_nothing(case: JobCase, move: Move) -> None:
    await move.before(case)
    lane, other = case.open()
    assert await other.cancels.cancel([case.job_id]) == {case.job_id}
    moving = asyncio.ensure_future(move.move(case.store, case))
    await case.blocked()
    await lane.end(commit=True)
    assert not await moving
    assert (await case.store.job(case.job_id)).status is CANCELLED
    assert await nothing_left(case)
    await other.close()


@every_move
async def test_a_move_that_waits_for_a_cancel_that_fails_is_made(case: JobCase, move: Move) -> None:
    await move.before(case)
    lane, other = case.open()
    await other.cancels.cancel([case.job_id])
    moving = asyncio.ensure_future(move.move(case.store, case))
    await case.blocked()
    await lane.end(commit=False)
    assert await moving
    await other.close()


async def nothing_left(case: JobCase) -> bool:
    """Return True if the job is in history once, and no claim to it holds any longer."""
    store = case.store
    counts = await store.overview.counts()
    live, over = counts.pending + counts.queued + counts.running, counts.completed + counts.failed + counts.cancelled
    claimed = await store.claim(await store.work("worker-2"), case.dispatches)
    return (live, over) == (0, 1) and not claimed and await store.settle(case.claims) == set()


# ---------------------------------------------------------------- from each status


async def test_a_pending_job_is_cancelled_and_never_dispatched(case: JobCase) -> None:
    await pending(case)
    assert await case.store.cancels.cancel([case.job_id]) == {case.job_id}
    job = await case.store.job(case.job_id)
    assert (job.status, job.attempt, job.attempts) == (CANCELLED, 0, [])
    assert job.completed_at is not None
    assert await case.store.dispatch(case.term) == []
    assert await case.store.overview.final([case.job_id]) == {case.job_id}
    assert case.store.stopped == []


async def test_a_queued_job_is_cancelled_and_its_doorbell_claims_nothing(case: JobCase) -> None:
    await queued(case)
    assert await case.store.cancels.cancel([case.job_id]) == {case.job_id}
    assert await case.store.claim(case.session, case.dispatches) == []
    assert await case.store.due.unclaimed(case.term, 0.0, 10) == []
    assert case.store.stopped == []


async def test_a_running_job_is_cancelled_at_once_and_its_holder_is_fenced_off_with_the_reason(case: JobCase) -> None:
    await running(case)
    assert await case.store.cancels.cancel([case.job_id]) == {case.job_id}
    assert case.store.stopped == [case.job_id]
    held = [AttemptId(case.job_id, 1)]
    assert await case.store.sessions.heartbeat(case.session, 30.0, held) == {LostClaim(case.job_id, 1, "cancelled")}
    assert await case.store.settle(case.claims) == set()
    assert await case.store.claims.outcomes([*held, AttemptId(case.job_id, 2)]) == dict.fromkeys(held, "cancelled")
    (attempt,) = (await case.store.job(case.job_id)).attempts
    assert (attempt.worker_id, attempt.outcome, attempt.error) == ("worker-1", "cancelled", None)
    assert attempt.ended_at is not None


async def test_what_was_lost_before_the_cancel_does_not_count_as_cancelled_under_its_worker(case: JobCase) -> None:
    await orphaned(case)
    await restart(case.store, case)
    assert await case.store.cancels.cancel([case.job_id]) == {case.job_id}
    assert await case.store.claims.outcomes([AttemptId(case.job_id, 1)]) == {}


async def test_a_job_that_waited_for_its_retry_keeps_its_last_error(case: JobCase) -> None:
    await running(case)
    await retry(case.store, case)
    await case.store.cancels.cancel([case.job_id])
    job = await case.store.job(case.job_id)
    assert (job.status, job.error, [a.outcome for a in job.attempts]) == (CANCELLED, "boom", ["failed"])


async def test_an_earlier_attempts_error_is_not_the_cancelled_ones(case: JobCase) -> None:
    (submitted,) = await case.store.submit(spec(retry_backoff=NO_WAIT))
    for outcome in (Failed("boom"), None):
        claims = await case.store.claim(case.session, await case.store.dispatch(case.term))
        if outcome is not None:
            await case.store.settle(claims, outcome)
    await case.store.cancels.cancel([submitted.id])
    job = await case.store.job(submitted.id)
    assert job.error is None
    assert [(a.attempt, a.outcome, a.error) for a in job.attempts] == [(1, "failed", "boom"), (2, "cancelled", None)]


async def test_many_are_cancelled_at_once_and_what_cannot_be_is_left_out(case: JobCase) -> None:
    await running(case)
    await complete(case.store, case)
    jobs = [s.id for s in await case.store.submit(*(spec() for _ in range(5)))]
    requested = [*reversed(jobs), *jobs, case.job_id, 10**12]
    assert await case.store.cancels.cancel(requested) == set(jobs)
    assert await case.store.cancels.cancel(requested) == set()
    assert await case.store.cancels.cancel([]) == set()
    counts = await case.store.overview.counts()
    assert (counts.pending, counts.completed, counts.cancelled) == (0, 1, 5)
    assert (await case.store.job(case.job_id)).status is JobStatus.COMPLETED


async def test_a_cancelled_job_keeps_its_key(case: JobCase) -> None:
    (first,) = await case.store.submit(spec(dedupe_key="k"))
    await case.store.cancels.cancel([first.id])
    (again,) = await case.store.submit(spec(dedupe_key="k"))
    assert (again.id, again.duplicate) == (first.id, True)


# ---------------------------------------------------------------- many locks


async def test_a_cancel_of_many_and_a_dispatch_do_not_wait_for_each_other(case: JobCase) -> None:
    """Test it with priorities against the ids: a dispatch must not lock in the order of its priorities."""
    jobs = [s.id for s in await case.store.submit(*(spec(priority=n) for n in range(3)))]
    await both(case, jobs, lambda: case.store.dispatch(case.term))


async def test_a_cancel_of_many_and_a_reap_do_not_wait_for_each_other(case: JobCase) -> None:
    """Test it with claims against the ids: the session's jobs lie in the order of their claims."""
    jobs = [s.id for s in await case.store.submit(*(spec() for _ in range(3)))]
    dispatches = await case.store.dispatch(case.term)
    for dispatched in reversed(dispatches):
        await case.store.claim(case.session, [dispatched])
    await case.store.sessions.end(case.session.id)
    await both(case, jobs, lambda: case.store.upkeep.free_jobs(case.term, 20))


async def both(case: JobCase, jobs: list[int], other: Callable[[], Awaitable[object]]) -> None:
    """Let a cancel of all three jobs and another move meet while another connection locks the one in the middle."""
    async with await psycopg.AsyncConnection.connect(case.store.dsn) as third:
        await third.execute("SELECT 1 FROM taskd.jobs WHERE id = %s FOR UPDATE", [jobs[1]])
        moving = asyncio.ensure_future(other())
        await case.blocked()
        cancelling = asyncio.ensure_future(case.store.cancels.cancel(jobs))
        await case.blocked(2)
        await third.rollback()
        await moving
        assert await cancelling == set(jobs)
