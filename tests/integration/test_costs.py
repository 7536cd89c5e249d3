"""Test the numbers of statements and commands for a thousand jobs, which are the same on every machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio.connection import AbstractConnection

from taskd.domain.fencing import Delivery, Session, Term
from taskd.domain.output import Chunk, Output
from taskd.settings import RedisSettings
from taskd.store.lane import Lane
from taskd.transport.stream import RedisTransport
from tests.integration.storage import DONE, Storage, spec

JOBS, BATCH = 1000, 500


@pytest.fixture
async def transport(redis_url: str, stream_name: str) -> AsyncIterator[RedisTransport]:
    made = RedisTransport(RedisSettings(url=redis_url, stream=stream_name), consumer="worker-1")
    yield made
    await made.close()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Return the counter of statements to PostgreSQL and commands to Redis."""
    counts: Counter[str] = Counter()
    execute, send = Lane._execute, AbstractConnection.send_packed_command

    async def counted_execute(self: Lane, *arguments: Any) -> Any:
        counts["statements"] += 1
        return await execute(self, *arguments)

    async def counted_send(self: Any, *arguments: Any, **options: Any) -> Any:
        counts["commands"] += 1
        return await send(self, *arguments, **options)

    monkeypatch.setattr(Lane, "_execute", counted_execute)
    monkeypatch.setattr(AbstractConnection, "send_packed_command", counted_send)
    return counts


async def walk(store: Storage, transport: RedisTransport, term: Term, session: Session, jobs: int) -> None:
    """Take jobs from submit to settle, in the batches of a busy cluster."""
    await store.submit(*[spec() for _ in range(jobs)])
    dispatches = await store.dispatch(term, jobs)
    assert len(dispatches) == jobs
    await transport.ring(dispatches)
    ended = 0
    while ended < jobs:
        found: list[Delivery] = await transport.fetch(["default"], BATCH, 0)
        claims = await store.claims.claim(session, found)
        await transport.decided(found)
        ended += len(await store.settle(claims, DONE))


async def test_a_thousand_jobs_are_six_statements_and_five_commands(
    store: Storage, transport: RedisTransport, sent: Counter[str]
) -> None:
    term, session = await store.lead(), await store.work()
    await walk(store, transport, term, session, 1)  # connects, and loads the scripts into Redis
    sent.clear()
    await walk(store, transport, term, session, JOBS)
    # submit, dispatch, and for each half: claim, settle; ring, and for each half: fetch, decide
    assert sent == {"statements": 2 + 2 * 2, "commands": 1 + 2 * 2}
    assert await store.raw.fetch("SELECT count(*) FROM taskd.finished_jobs") == [(JOBS + 1,)]
    assert await store.raw.fetch("SELECT count(*) FROM taskd.logs") == [(0,)]


async def test_output_of_many_attempts_is_one_statement(store: Storage, sent: Counter[str]) -> None:
    term, session = await store.lead(), await store.work()
    await store.submit(*[spec() for _ in range(BATCH)])
    claims = await store.claim(session, await store.dispatch(term, BATCH))
    body = b'[[1.5,"stdout","","a line"]]'
    outputs = [
        Output(job_id=c.job_id, attempt=1, session=c.session, chunks=[Chunk(c.job_id, 1, 1, 1, False, body)])
        for c in claims
    ]
    sent.clear()
    assert len(await store.logs.write(outputs)) == BATCH
    assert sent == {"statements": 1}
    assert await store.raw.fetch("SELECT count(*) FROM taskd.logs") == [(BATCH,)]
