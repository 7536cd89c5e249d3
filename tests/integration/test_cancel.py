"""Cancelling: from each status, and against each other move while one of the two waits for the other's lock."""

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
    """A lane whose statements stay uncommitted until the test says so."""

    async def _connect(self) -> psycopg.AsyncConnection[Row]:
        connection = await super()._connect()
        await connection.set_autocommit(False)
        return connection

    async def end(self, *, commit: bool) -> None:
        assert self._connection is not None
        await (self._connection.commit() if commit else self._connection.rollback())


@dataclass
class World:
    """One job, and the rights to move it on."""

    store: Storage
    term: Term
    session: Session
    lanes: list[Lane] = field(default_factory=list)
    dispatches: list[Dispatch] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    job_id: int = 0

    def open(self) -> tuple[OpenLane, Storage]:
        """A store whose moves stay uncommitted, and the lane that commits them."""
        lane = OpenLane(self.store.dsn, name="taskd:open", deadline=10.0, options=ONE_PLAN)
        self.lanes.append(lane)
        store = Storage(self.store.dsn)
        store.due = PostgresDispatching(lane)
        store.claims = PostgresClaims(lane, lane)
        store.upkeep = PostgresReaping(lane)
        store.cancels = PostgresCancels(lane, stopped=store.stopped.extend)
        return lane, store

    async def blocked(self, many: int = 1) -> None:
        """Return when so many statements wait for somebody's lock."""
        question = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND cardinality(pg_blocking_pids(pid)) > 0"
        )

        async def waiting() -> bool:
            return bool((await self.store.raw.fetch(question))[0][0] >= many)

        await wait_until_async(waiting)


@pytest.fixture
async def world(postgres_dsn: str) -> AsyncIterator[World]:
    store = Storage(postgres_dsn)
    made = World(store, await store.lead(), await store.work())
    yield made
    for lane in made.lanes:
        await lane.close()
    await store.close()


# ---------------------------------------------------------------- how far a job has come


async def pending(world: World) -> None:
    (submitted,) = await world.store.submit(spec())
    world.job_id = submitted.id


async def queued(world: World) -> None:
    await pending(world)
    world.dispatches = await world.store.dispatch(world.term)


async def running(world: World) -> None:
    await queued(world)
    world.claims = await world.store.claim(world.session, world.dispatches)


async def orphaned(world: World) -> None:
    await running(world)
    await world.store.sessions.end(world.session.id)


async def suspected(world: World) -> None:
    """It ran alone, and the next loss is the last."""
    await orphaned(world)
    await world.store.raw.fetch("UPDATE taskd.jobs SET losses = 2 RETURNING id")


# ---------------------------------------------------------------- how it moves on: True if it did


async def dispatch(store: Storage, world: World) -> bool:
    return bool(await store.dispatch(world.term))


async def reoffer(store: Storage, world: World) -> bool:
    return bool(await store.due.reoffer(world.term, world.dispatches))


async def claim(store: Storage, world: World) -> bool:
    return bool(await store.claim(world.session, world.dispatches))


async def complete(store: Storage, world: World) -> bool:
    return bool(await store.settle(world.claims))


async def retry(store: Storage, world: World) -> bool:
    return bool(await store.settle(world.claims, Failed("boom")))


async def restart(store: Storage, world: World) -> bool:
    return bool((await store.upkeep.free_jobs(world.term, 20)).restarted)


async def give_up(store: Storage, world: World) -> bool:
    return bool((await store.upkeep.free_jobs(world.term, 1)).failed)


class Move(NamedTuple):
    """A move of a job, and how the job ends if a cancel comes second: status, worker, outcomes of its attempts."""

    before: Callable[[World], Awaitable[None]]
    move: Callable[[Storage, World], Awaitable[bool]]
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
async def test_a_cancel_that_waits_for_another_move_meets_the_job_where_it_is_then(world: World, move: Move) -> None:
    await move.before(world)
    lane, other = world.open()
    assert await move.move(other, world)
    cancelling = asyncio.create_task(world.store.cancels.cancel([world.job_id]))
    await world.blocked()
    await lane.end(commit=True)
    assert await cancelling == ({world.job_id} if move.status is CANCELLED else set())
    job = await world.store.job(world.job_id)
    assert (job.status, job.worker_id, [a.outcome for a in job.attempts]) == (move.status, move.worker, move.outcomes)
    assert await nothing_left(world)
    await other.close()


@every_move
async def test_a_cancel_that_waits_for_a_move_that_fails_meets_the_job_where_it_was(world: World, move: Move) -> None:
    await move.before(world)
    lane, other = world.open()
    assert await move.move(other, world)
    cancelling = asyncio.create_task(world.store.cancels.cancel([world.job_id]))
    await world.blocked()
    await lane.end(commit=False)
    assert await cancelling == {world.job_id}
    assert (await world.store.job(world.job_id)).status is CANCELLED
    assert await nothing_left(world)
    await other.close()


@every_move
async def test_a_move_that_waits_for_a_cancel_does_nothing(world: World, move: Move) -> None:
    await move.before(world)
    lane, other = world.open()
    assert await other.cancels.cancel([world.job_id]) == {world.job_id}
    moving = asyncio.ensure_future(move.move(world.store, world))
    await world.blocked()
    await lane.end(commit=True)
    assert not await moving
    assert (await world.store.job(world.job_id)).status is CANCELLED
    assert await nothing_left(world)
    await other.close()


@every_move
async def test_a_move_that_waits_for_a_cancel_that_fails_is_made(world: World, move: Move) -> None:
    await move.before(world)
    lane, other = world.open()
    await other.cancels.cancel([world.job_id])
    moving = asyncio.ensure_future(move.move(world.store, world))
    await world.blocked()
    await lane.end(commit=False)
    assert await moving
    await other.close()


async def nothing_left(world: World) -> bool:
    """True if the job is history, once, and no right to it holds any longer."""
    store = world.store
    counts = await store.overview.counts()
    live, over = counts.pending + counts.queued + counts.running, counts.completed + counts.failed + counts.cancelled
    claimed = await store.claim(await store.work("worker-2"), world.dispatches)
    return (live, over) == (0, 1) and not claimed and await store.settle(world.claims) == set()


# ---------------------------------------------------------------- from each status


async def test_a_pending_job_is_cancelled_and_never_dispatched(world: World) -> None:
    await pending(world)
    assert await world.store.cancels.cancel([world.job_id]) == {world.job_id}
    job = await world.store.job(world.job_id)
    assert (job.status, job.attempt, job.attempts) == (CANCELLED, 0, [])
    assert job.completed_at is not None
    assert await world.store.dispatch(world.term) == []
    assert await world.store.overview.final([world.job_id]) == {world.job_id}
    assert world.store.stopped == []


async def test_a_queued_job_is_cancelled_and_its_doorbell_claims_nothing(world: World) -> None:
    await queued(world)
    assert await world.store.cancels.cancel([world.job_id]) == {world.job_id}
    assert await world.store.claim(world.session, world.dispatches) == []
    assert await world.store.due.unclaimed(world.term, 0.0, 10) == []
    assert world.store.stopped == []


async def test_a_running_job_is_cancelled_at_once_and_its_holder_is_fenced_off_with_the_reason(world: World) -> None:
    await running(world)
    assert await world.store.cancels.cancel([world.job_id]) == {world.job_id}
    assert world.store.stopped == [world.job_id]
    held = [AttemptId(world.job_id, 1)]
    assert await world.store.sessions.heartbeat(world.session, 30.0, held) == {LostClaim(world.job_id, 1, "cancelled")}
    assert await world.store.settle(world.claims) == set()
    assert await world.store.claims.outcomes([*held, AttemptId(world.job_id, 2)]) == dict.fromkeys(held, "cancelled")
    (attempt,) = (await world.store.job(world.job_id)).attempts
    assert (attempt.worker_id, attempt.outcome, attempt.error) == ("worker-1", "cancelled", None)
    assert attempt.ended_at is not None


async def test_what_was_lost_before_the_cancel_does_not_count_as_cancelled_under_its_worker(world: World) -> None:
    await orphaned(world)
    await restart(world.store, world)
    assert await world.store.cancels.cancel([world.job_id]) == {world.job_id}
    assert await world.store.claims.outcomes([AttemptId(world.job_id, 1)]) == {}


async def test_a_job_that_waited_for_its_retry_keeps_its_last_error(world: World) -> None:
    await running(world)
    await retry(world.store, world)
    await world.store.cancels.cancel([world.job_id])
    job = await world.store.job(world.job_id)
    assert (job.status, job.error, [a.outcome for a in job.attempts]) == (CANCELLED, "boom", ["failed"])


async def test_an_earlier_attempts_error_is_not_the_cancelled_ones(world: World) -> None:
    (submitted,) = await world.store.submit(spec(retry_backoff=NO_WAIT))
    for outcome in (Failed("boom"), None):
        claims = await world.store.claim(world.session, await world.store.dispatch(world.term))
        if outcome is not None:
            await world.store.settle(claims, outcome)
    await world.store.cancels.cancel([submitted.id])
    job = await world.store.job(submitted.id)
    assert job.error is None
    assert [(a.attempt, a.outcome, a.error) for a in job.attempts] == [(1, "failed", "boom"), (2, "cancelled", None)]


async def test_many_are_cancelled_at_once_and_what_cannot_be_is_left_out(world: World) -> None:
    await running(world)
    await complete(world.store, world)
    jobs = [s.id for s in await world.store.submit(*(spec() for _ in range(5)))]
    asked = [*reversed(jobs), *jobs, world.job_id, 10**12]
    assert await world.store.cancels.cancel(asked) == set(jobs)
    assert await world.store.cancels.cancel(asked) == set()
    assert await world.store.cancels.cancel([]) == set()
    counts = await world.store.overview.counts()
    assert (counts.pending, counts.completed, counts.cancelled) == (0, 1, 5)
    assert (await world.store.job(world.job_id)).status is JobStatus.COMPLETED


async def test_a_cancelled_job_keeps_its_key(world: World) -> None:
    (first,) = await world.store.submit(spec(dedupe_key="k"))
    await world.store.cancels.cancel([first.id])
    (again,) = await world.store.submit(spec(dedupe_key="k"))
    assert (again.id, again.duplicate) == (first.id, True)


# ---------------------------------------------------------------- many locks


async def test_a_cancel_of_many_and_a_dispatch_do_not_wait_for_each_other(world: World) -> None:
    """The dispatch's order is the opposite of the ids', so it must not be the order in which it locks."""
    jobs = [s.id for s in await world.store.submit(*(spec(priority=n) for n in range(3)))]
    await both(world, jobs, lambda: world.store.dispatch(world.term))


async def test_a_cancel_of_many_and_a_reap_do_not_wait_for_each_other(world: World) -> None:
    """The session's jobs lie in the order of their claims, which is the opposite of the ids'."""
    jobs = [s.id for s in await world.store.submit(*(spec() for _ in range(3)))]
    dispatches = await world.store.dispatch(world.term)
    for one in reversed(dispatches):
        await world.store.claim(world.session, [one])
    await world.store.sessions.end(world.session.id)
    await both(world, jobs, lambda: world.store.upkeep.free_jobs(world.term, 20))


async def both(world: World, jobs: list[int], other: Callable[[], Awaitable[object]]) -> None:
    """Let a cancel of all three and another move meet while a third party holds the one in the middle."""
    async with await psycopg.AsyncConnection.connect(world.store.dsn) as third:
        await third.execute("SELECT 1 FROM taskd.jobs WHERE id = %s FOR UPDATE", [jobs[1]])
        moving = asyncio.ensure_future(other())
        await world.blocked()
        cancelling = asyncio.ensure_future(world.store.cancels.cancel(jobs))
        await world.blocked(2)
        await third.rollback()
        await moving
        assert await cancelling == set(jobs)
