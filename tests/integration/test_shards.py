"""Test shards in PostgreSQL: each has its own epochs, and its leader moves only the jobs of its queues."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import psycopg
import pytest

from taskd.domain.band import BANDS, Credit
from taskd.domain.errors import NotLeader
from taskd.domain.shard import shard_of
from taskd.store.terms import leader_name
from tests.integration.storage import AGEING, Storage, spec
from tests.servers import wait_until_async

#: One queue of each of three shards.
QUEUES = ("default", "images", "mail")
EVERYTHING = [Credit(queue, band, 100) for queue in QUEUES for band in BANDS]


@pytest.fixture
async def leaders(postgres_dsn: str) -> AsyncIterator[list[Storage]]:
    """Return a store for each shard."""
    assert [shard_of(queue, 3) for queue in QUEUES] == [0, 1, 2]
    stores = [Storage(postgres_dsn) for _ in range(3)]
    yield stores
    for store in stores:
        await store.close()


async def test_postgresql_and_python_agree_on_every_queues_shard(leaders: list[Storage]) -> None:
    names = [f"queue-{n}" for n in range(500)] + ["", " ", "ä", "日本語", "a/b", "x" * 200, "🙂"]
    for shards in (1, 2, 3, 7, 64):
        rows = await leaders[0].raw.fetch(
            "SELECT name, taskd.shard_of(name, %(shards)s) FROM unnest(%(names)s::text[]) AS name",
            {"names": names, "shards": shards},
        )
        assert dict(rows) == {name: shard_of(name, shards) for name in names}


async def test_each_shard_has_its_own_epochs_and_a_takeover_of_one_ends_no_other_term(leaders: list[Storage]) -> None:
    terms = [await store.lead(shard, 3) for shard, store in enumerate(leaders)]
    assert [term.epoch for term in terms] == [1, 1, 1]
    successor = Storage(leaders[0].dsn)
    assert (await successor.lead(1, 3)).epoch == 2
    for shard in (0, 2):
        await leaders[shard].terms.renew(terms[shard], 5)
    with pytest.raises(NotLeader):
        await leaders[1].terms.renew(terms[1], 5)
    rows = await successor.terms.current()
    assert [(row.shard, row.epoch, row.holder) for row in rows] == [
        (0, 1, leaders[0].holder),
        (1, 2, successor.holder),
        (2, 1, leaders[2].holder),
    ]
    assert (await successor.overview.counts()).dispatched == 10
    await successor.close()


async def test_of_many_who_lead_a_shard_for_the_first_time_one_does(leaders: list[Storage]) -> None:
    holders = [uuid4() for _ in range(20)]
    tries = (leaders[n % 3].terms.take_over(h, "s", None, 60.0, shard=5, shards=8) for n, h in enumerate(holders))
    terms = [term for term in await asyncio.gather(*tries) if term is not None]
    assert [term.epoch for term in terms] == [1]


async def test_a_leader_moves_nothing_of_other_shards_whatever_it_asks_for(leaders: list[Storage]) -> None:
    terms = [await store.lead(shard, 3) for shard, store in enumerate(leaders)]
    jobs = dict(zip(QUEUES, await leaders[0].submit(*(spec(queue=queue) for queue in QUEUES)), strict=True))
    for shard, (term, store) in enumerate(zip(terms, leaders, strict=True)):
        batch = await store.due.dispatch(term, EVERYTHING, AGEING)
        assert [d.job_id for d in batch.dispatches] == [jobs[QUEUES[shard]].id]
        unclaimed = await store.due.unclaimed(term, 0.0, 10)
        assert [d.job_id for d in unclaimed] == [jobs[QUEUES[shard]].id]
        assert await leaders[shard - 1].due.reoffer(terms[shard - 1], unclaimed) == 0
        assert await store.due.reoffer(term, unclaimed) == 1


async def test_a_term_of_one_shard_is_none_of_another(leaders: list[Storage]) -> None:
    term = await leaders[0].lead(0, 3)
    await leaders[1].lead(1, 3)
    await leaders[0].submit(spec(queue=QUEUES[1]))
    forged = type(term)(term.epoch, term.holder, 1, 3)
    with pytest.raises(NotLeader):
        await leaders[0].due.dispatch(forged, EVERYTHING, AGEING)
    assert (await leaders[0].overview.counts()).pending == 1


async def test_a_claim_says_the_epoch_of_its_queues_shard(leaders: list[Storage]) -> None:
    store = leaders[0]
    await store.lead(0, 3)
    await leaders[2].lead(2, 3)
    term = await leaders[2].lead(2, 3)
    session = await store.work(queues=QUEUES)
    await store.submit(spec(queue=QUEUES[2]))
    (claim,) = await store.claim(session, await leaders[2].dispatch(term, queue=QUEUES[2]))
    assert claim.epoch == term.epoch == 2


async def test_a_takeover_ends_the_connections_of_its_own_shards_leader_only(leaders: list[Storage]) -> None:
    await leaders[0].lead(0, 3)
    await leaders[1].lead(1, 3)
    paused = [
        await psycopg.AsyncConnection.connect(term.dsn, application_name=leader_name(term.holder))
        for term in leaders[:2]
    ]
    for shard, connection in enumerate(paused):
        await connection.execute("SELECT 1 FROM taskd.leader WHERE shard = %s FOR SHARE", [shard])
    assert (await leaders[2].lead(1, 3)).epoch == 2
    await paused[0].execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        await paused[1].execute("SELECT 1")
    for connection in paused:
        await connection.close()


async def test_workers_of_the_version_without_shards_still_find_an_epoch(leaders: list[Storage]) -> None:
    for shard, store in enumerate(leaders):
        await store.lead(shard, 3)
    assert await leaders[0].raw.fetch("SELECT (SELECT epoch FROM taskd.leader WHERE only_row)", {}) == [(1,)]


async def test_two_who_count_different_numbers_of_shards_dispatch_each_job_once(leaders: list[Storage]) -> None:
    """Test a change of the number, during which a queue may have two leaders or none."""
    one, two = leaders[0], leaders[1]
    both = await one.lead(0, 1), await two.lead(1, 3)
    await one.submit(*(spec(queue=queue) for queue in QUEUES for _ in range(50)))
    batches = await asyncio.gather(
        *(store.due.dispatch(term, EVERYTHING, AGEING) for store, term in zip((one, two), both, strict=True))
    )
    sent = [d.job_id for batch in batches for d in batch.dispatches]
    assert len(sent) == len(set(sent))

    async def all_queued() -> bool:
        sent.extend(d.job_id for d in (await one.due.dispatch(both[0], EVERYTHING, AGEING)).dispatches)
        return (await one.overview.counts()).pending == 0

    await wait_until_async(all_queued)
    assert len(sent) == len(set(sent)) == 150
