"""Test manual retries: one new job for each failed or cancelled one, also when two clients retry at the same time."""

from __future__ import annotations

import asyncio

from taskd.domain.job import JobFilter, JobStatus
from taskd.domain.outcome import Failed
from taskd.domain.policy import Backoff
from tests.integration.storage import Storage, spec


async def failed(store: Storage, many: int = 1, **fields: object) -> list[int]:
    """Make jobs that failed for good; return their ids."""
    ids = [s.id for s in await store.submit(*[spec('{"a": 1}', max_retries=0, **fields)] * many)]
    claims = await store.claim(await store.work(), await store.dispatch(await store.lead()))
    await store.settle(claims, Failed("no luck"))
    return ids


async def test_the_new_job_is_the_old_one_again(store: Storage) -> None:
    backoff = Backoff(initial=7.0, factor=3.0, max=70.0, jitter=False)
    (old,) = await failed(
        store,
        task="t",
        queue="default",
        priority=9,
        timeout=5.0,
        metadata={"k": "v"},
        retry_backoff=backoff,
        dedupe_key="d",
    )
    rung = store.rung
    retried = await store.retries.retry([old])
    before, after = await store.job(old), await store.job(retried[old])
    assert store.rung == rung + 1
    assert (after.status, after.parent_id, before.retried_as, before.status) == (
        JobStatus.PENDING,
        old,
        after.id,
        JobStatus.FAILED,
    )
    same = ("task", "queue", "priority", "max_retries", "timeout", "metadata", "payload")
    assert [getattr(after, f) for f in same] == [getattr(before, f) for f in same]
    assert (after.attempt, after.attempts, after.error, after.dedupe_key) == (0, [], None, None)
    assert after.schedule_at == after.created_at > before.created_at
    rows = await store.raw.fetch(
        "SELECT count(DISTINCT backoff) FROM (SELECT backoff FROM taskd.jobs UNION ALL"
        " SELECT backoff FROM taskd.finished_jobs) b"
    )
    assert rows == [(1,)]


async def test_only_what_failed_or_was_cancelled_is_retried_and_once(store: Storage) -> None:
    (dead,) = await failed(store)
    live, doomed = [s.id for s in await store.submit(spec(), spec())]
    await store.cancels.cancel([doomed])
    rung = store.rung
    retried = await store.retries.retry([dead, live, doomed, 999_999, dead])
    assert retried.keys() == {dead, doomed}
    assert store.rung == rung + 1
    assert await store.retries.retry([dead, live, doomed, 999_999]) == {}
    assert store.rung == rung + 1
    assert len((await store.overview.jobs(JobFilter(status=JobStatus.PENDING))).jobs) == 3


async def test_a_completed_job_is_not_retried(store: Storage) -> None:
    (submitted,) = await store.submit(spec())
    await store.settle(await store.claim(await store.work(), await store.dispatch(await store.lead())))
    assert await store.retries.retry([submitted.id]) == {}
    assert (await store.job(submitted.id)).status is JobStatus.COMPLETED


async def test_a_retried_job_runs(store: Storage) -> None:
    (old,) = await failed(store)
    retried = await store.retries.retry([old])
    claims = await store.claim(await store.work("worker-2"), await store.dispatch(await store.lead()))
    assert [c.job_id for c in claims] == [retried[old]]
    await store.settle(claims)
    assert (await store.job(retried[old])).status is JobStatus.COMPLETED


async def test_many_at_once_make_one_new_job_each(store: Storage, postgres_dsn: str) -> None:
    ids = await failed(store, 50)
    others = [Storage(postgres_dsn) for _ in range(3)]
    try:
        results = await asyncio.gather(*(o.retries.retry(ids) for o in (store, *others)))
    finally:
        for other in others:
            await other.close()
    assert sorted(old for result in results for old in result) == ids
    rows = await store.raw.fetch("SELECT parent_id, id FROM taskd.jobs WHERE status = 'pending'")
    assert dict(rows) == {old: new for result in results for old, new in result.items()}


async def test_a_filter_finds_what_can_be_changed(store: Storage) -> None:
    dead = await failed(store, 3, task="t")
    waiting = [s.id for s in await store.submit(spec(task="t"), spec(task="u"), spec(queue="q"))]
    retriable, cancellable = store.overview.retriable, store.overview.cancellable
    job_filter = JobFilter(status=JobStatus.FAILED)
    assert await retriable(job_filter) == dead[::-1]
    await store.retries.retry(dead[1:2])
    assert await retriable(job_filter) == [dead[2], dead[0]]
    assert await retriable(JobFilter(status=JobStatus.FAILED, before=dead[2])) == [dead[0]]
    assert await retriable(JobFilter(status=JobStatus.CANCELLED)) == []
    assert await retriable(JobFilter(status=JobStatus.COMPLETED)) == []
    assert await cancellable(JobFilter(task="u")) == [waiting[1]]
    assert await cancellable(JobFilter(queue="q", status=JobStatus.PENDING)) == [waiting[2]]
    assert await cancellable(JobFilter(status=JobStatus.RUNNING)) == []
    assert len(await cancellable(JobFilter(limit=2))) == 2
