"""Test that `taskd explain` reads the same data as dispatching does, at a bounded cost."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from taskd.domain.explain.situation import Busy, EntryLocation, JobSnapshot
from taskd.domain.fencing import Dispatch
from taskd.domain.job import JobStatus
from taskd.domain.outcome import Failed, Snoozed
from taskd.domain.policy import LONE_LOSS_LIMIT, SUSPECT_AFTER
from taskd.settings import RedisSettings
from taskd.store import explained
from taskd.store.config import PostgresConfigStore
from taskd.store.explained import PostgresExplained
from taskd.store.lane import ONE_PLAN, Lane
from taskd.transport.stream import RedisTransport
from tests.integration.storage import AGEING, Storage, spec


@pytest.fixture
async def reads(postgres_dsn: str) -> AsyncIterator[PostgresExplained]:
    lane = Lane(postgres_dsn, name="test:explain", deadline=5.0, options=ONE_PLAN)
    yield PostgresExplained(lane)
    await lane.close()


async def subject(reads: PostgresExplained, job_id: int) -> JobSnapshot:
    snapshot = await reads.subject(job_id)
    assert snapshot is not None
    return snapshot


async def test_as_many_are_ahead_of_a_job_as_are_dispatched_before_it(store: Storage, reads: PostgresExplained) -> None:
    now, draw = datetime.now(UTC), random.Random(7)
    specs = [
        spec(
            priority=draw.choice((0, 1, 2, 3, 30, 31, 80)),
            # Some at the same time, and some years old, so that ageing counts; a quarter is not due.
            schedule_at=now + timedelta(seconds=AGEING * draw.choice((-40, -3, -2, -1.5, -1.5, -0.4, -0.2, 2))),
        )
        for _ in range(300)
    ]
    jobs = [item.id for item in await store.submit(*specs)]
    await store.submit(*(spec(queue="other", priority=100) for _ in range(5)))
    due = {job_id: snapshot for job_id in jobs if (snapshot := await subject(reads, job_id)).due}
    ahead = {job_id: (await reads.queue(job, AGEING)).ahead for job_id, job in due.items()}
    order = [item.job_id for item in await store.dispatch(await store.lead(), 1000)]
    assert sorted(ahead, key=ahead.__getitem__) == order
    assert sorted(ahead.values()) == list(range(len(order)))


async def test_no_count_goes_further_than_its_bound(
    store: Storage, reads: PostgresExplained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explained, "COUNTED", 20)
    await store.submit(*(spec(priority=priority) for priority in (0, 5, 60) for _ in range(30)))
    last = (await store.submit(spec()))[0].id
    queue = await reads.queue(await subject(reads, last), AGEING)
    assert (queue.ahead, queue.bound) == (20, 20)


async def test_what_is_dispatched_goes_first_unless_its_band_is_read_later(
    store: Storage, reads: PostgresExplained
) -> None:
    await store.submit(*(spec(priority=priority) for priority in (0, 0, 60)))
    await store.dispatch(await store.lead())
    low, high = [job.id for job in await store.submit(spec(), spec(priority=60))]
    assert (await reads.queue(await subject(reads, low), AGEING)).rung == 3
    assert (await reads.queue(await subject(reads, high), AGEING)).rung == 1


async def test_a_job_that_runs_alone_has_all_slots_of_its_worker(store: Storage, reads: PostgresExplained) -> None:
    term = await store.lead()
    await store.submit(spec())
    for number in range(SUSPECT_AFTER):
        gone = await store.work(f"gone-{number}")
        await store.claim(gone, await store.dispatch(term))
        await store.sessions.end(gone.id)
        await store.upkeep.free_jobs(term, LONE_LOSS_LIMIT)
    (alone,) = await store.claim(await store.work(), await store.dispatch(term), alone=True)
    assert (await subject(reads, alone.job_id)).runs_alone
    waiting = (await store.submit(spec()))[0].id
    (server,) = (await reads.queue(await subject(reads, waiting), AGEING)).servers
    assert (server.slots, server.busy) == (8, 8)


async def test_who_serves_a_queue_and_what_takes_their_slots_longest(store: Storage, reads: PostgresExplained) -> None:
    one = await store.work("one", queues=("default", "more"))
    two = await store.work("two", queues=("more",))
    term = await store.lead()
    jobs = [job.id for job in await store.submit(*(spec(queue="more", task=f"t{n}") for n in range(5)))]
    dispatches = await store.dispatch(term, queue="more")
    for number, dispatch in enumerate(dispatches):
        await store.claim(two if number else one, [dispatch])
    waiting = (await store.submit(spec(queue="more")))[0].id
    queue = await reads.queue(await subject(reads, waiting), AGEING)
    assert [(s.session, s.worker_id, s.slots, s.busy) for s in queue.servers] == [
        (one.id, "one", 8, 1),
        (two.id, "two", 8, 4),
    ]
    assert [(b.id, b.task, b.worker_id) for b in queue.longest] == [
        (jobs[0], "t0", "one"),
        (jobs[1], "t1", "two"),
        (jobs[2], "t2", "two"),
    ]
    assert isinstance(queue.longest[0], Busy)
    running = await subject(reads, jobs[0])
    assert running.lease is not None
    assert running.lease > running.now
    assert running.worker_id == "one"

    await store.sessions.end(one.id)
    await store.sessions.end(two.id)
    queue = await reads.queue(await subject(reads, waiting), AGEING)
    assert (queue.servers, queue.served_by) == ([], "two")
    assert queue.served_until is not None
    other = (await store.submit(spec(queue="nobody")))[0].id
    assert (await reads.queue(await subject(reads, other), AGEING)).served_by is None


async def test_a_job_is_known_through_all_of_its_life(store: Storage, reads: PostgresExplained) -> None:
    term, session = await store.lead(), await store.work()
    job = (await store.submit(spec(max_retries=1)))[0].id
    first = await subject(reads, job)
    assert (first.status, first.attempt, first.dispatch_seq, first.last) == (JobStatus.PENDING, 0, 0, None)
    (claim,) = await store.claim(session, await store.dispatch(term))
    await store.note(claim, progress=b'{"attempt":1,"fraction":0.5,"message":"half"}')
    running = await subject(reads, job)
    assert running.progress is not None
    assert (running.progress.attempt, running.progress.fraction, running.progress.message) == (1, 0.5, "half")
    await store.settle([claim], Failed("Traceback\nValueError: no"))
    again = await subject(reads, job)
    assert again.last is not None
    assert (again.status, again.failures, again.last.outcome, again.last.error) == (
        JobStatus.PENDING,
        1,
        "failed",
        "Traceback\nValueError: no",
    )
    await store.cancels.cancel([job])
    ended = await subject(reads, job)
    assert (ended.status, ended.completed_at is not None, ended.outcome) == (JobStatus.CANCELLED, True, None)
    assert await reads.subject(job + 1) is None
    assert await reads.subject(0) is None


async def test_a_snoozed_job_says_why(store: Storage, reads: PostgresExplained) -> None:
    term, session = await store.lead(), await store.work()
    job = (await store.submit(spec()))[0].id
    await store.settle(await store.claim(session, await store.dispatch(term)), Snoozed(60.0, "closed"))
    snapshot = await subject(reads, job)
    assert snapshot.last is not None
    assert (snapshot.due, snapshot.last.outcome, snapshot.last.error) == (False, "snoozed", "closed")


async def test_who_paused_a_queue_is_who_did_it_last_and_not_who_changed_something_since(postgres_dsn: str) -> None:
    lane = Lane(postgres_dsn, name="test:live", deadline=5.0)
    store = PostgresConfigStore(lane)
    key, latest = "queue.a.paused", await store.latest()
    assert await store.since(key) is None
    for who, values in (
        ("ann", {key: True}),
        ("bob", {}),
        ("cid", {key: True}),
        ("dan", {key: True, "log.level": "INFO"}),
    ):
        version = await store.append(latest, who=who, what="x", values=values)
        assert version is not None
        latest = version
    change = await store.since(key)
    assert change is not None
    assert (change.version, change.who) == (3, "cid")
    await lane.close()


async def test_an_entry_is_found_where_it_is(redis_url: str, stream_name: str) -> None:
    one, two = (
        RedisTransport(RedisSettings(url=redis_url, stream=stream_name), consumer=name) for name in ("one", "two")
    )
    low, high = [Dispatch(job, 1, "q", 0) for job in (1, 2, 3)], [Dispatch(job, 1, "q", 90) for job in (11, 12)]
    assert await one.locate(low[0]) == EntryLocation(gone=True)
    await one.ring([*low, *high])
    assert [await one.locate(d) for d in (*high, *low)] == [EntryLocation(ahead=n) for n in range(5)]
    taken = await one.fetch(["q"], 3, 0)  # both urgent entries, and the first of the others
    assert [await one.locate(d) for d in low[1:]] == [EntryLocation(ahead=0), EntryLocation(ahead=1)]
    held = await two.locate(high[0])
    assert (held.worker_id, held.gone) == ("one", False)
    assert held.idle < 60
    await one.decided(taken)
    assert await two.locate(high[0]) == EntryLocation(gone=True)
    assert await two.locate(Dispatch(2, 2, "q", 0)) == EntryLocation(gone=True)  # another dispatch of the same job
    await one.close()
    await two.close()
