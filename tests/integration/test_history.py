"""Test pruning: old jobs go with their keys; young ones stay, and after the end of the term all stay."""

from __future__ import annotations

import pytest

from taskd.domain.errors import NotLeader
from taskd.domain.job import JobStatus
from tests.integration.storage import Storage, spec

COMPLETED, CANCELLED = JobStatus.COMPLETED, JobStatus.CANCELLED
DAY = 86_400.0


async def finished(store: Storage, jobs: int, days: float = 0.0, **fields: object) -> list[int]:
    """Make jobs that completed `days` days ago; return their ids."""
    ids = [s.id for s in await store.submit(*[spec("null", **fields)] * jobs)]
    claims = await store.claim(await store.work(f"worker-{ids[0]}"), await store.dispatch(await store.lead()))
    await store.settle(claims)
    await store.raw.fetch(
        f"UPDATE taskd.finished_jobs SET completed_at = completed_at - interval '{days} days'"
        f" WHERE id BETWEEN {ids[0]} AND {ids[-1]} RETURNING id"
    )
    return ids


async def left(store: Storage) -> list[int]:
    return [row[0] for row in await store.raw.fetch("SELECT id FROM taskd.finished_jobs ORDER BY id")]


async def test_the_old_go_and_the_young_stay(store: Storage) -> None:
    old, young = await finished(store, 5, days=8), await finished(store, 3, days=6)
    term = await store.lead()
    page = await store.history.prune(term, COMPLETED, 7 * DAY, 0, 4)
    assert (page.deleted, page.seen, page.last) == (4, 4, old[3])
    page = await store.history.prune(term, COMPLETED, 7 * DAY, page.last, 4)
    assert (page.deleted, page.seen, page.last) == (1, 4, young[2])
    assert await left(store) == young
    page = await store.history.prune(term, COMPLETED, 7 * DAY, page.last, 4)
    assert (page.deleted, page.seen, page.last) == (0, 0, young[2])


async def test_each_status_has_its_own_time(store: Storage) -> None:
    (done,) = await finished(store, 1, days=8)
    (doomed,) = [s.id for s in await store.submit(spec())]
    await store.cancels.cancel([doomed])
    await store.raw.fetch("UPDATE taskd.finished_jobs SET completed_at = completed_at - interval '8 days' RETURNING id")
    term = await store.lead()
    assert (await store.history.prune(term, CANCELLED, 30 * DAY, 0, 10)).deleted == 0
    assert (await store.history.prune(term, COMPLETED, 7 * DAY, 0, 10)).deleted == 1
    assert await left(store) == [doomed]
    assert done not in await left(store)


async def test_the_key_of_a_job_goes_with_it_and_no_other(store: Storage) -> None:
    (old,) = await finished(store, 1, days=8, dedupe_key="old")
    (young,) = await finished(store, 1, dedupe_key="young")
    await store.history.prune(await store.lead(), COMPLETED, 7 * DAY, 0, 10)
    assert await store.raw.fetch("SELECT key, job_id FROM taskd.dedupe_keys") == [("young", young)]
    (again,) = await store.submit(spec(dedupe_key="old"))
    assert not again.duplicate
    assert again.id > old


async def test_live_jobs_and_counts_stay(store: Storage) -> None:
    await finished(store, 2, days=8)
    (live,) = await store.submit(spec())
    before = await store.overview.counts()
    await store.history.prune(await store.lead(), COMPLETED, 7 * DAY, 0, 10)
    assert await store.overview.counts() == before
    assert (await store.job(live.id)).status is JobStatus.PENDING


async def test_no_leader_prunes_after_its_term(store: Storage) -> None:
    await finished(store, 1, days=8)
    term = await store.lead()
    await store.lead()
    with pytest.raises(NotLeader):
        await store.history.prune(term, COMPLETED, 7 * DAY, 0, 10)
    assert len(await left(store)) == 1
