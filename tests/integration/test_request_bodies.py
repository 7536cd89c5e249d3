"""Test many large uploads at once: those beyond the budget are refused, and small requests succeed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from taskd.api import body_budget
from taskd.api.body_budget import BODIES, SMALL, BodyBudget
from taskd.runtime.serve import Address, serving
from taskd.settings import HttpSettings
from tests.servers import wait_until_async
from tests.unit.api_world import Recorder, a_job

MIB = 1024 * 1024
LIMIT = HttpSettings(max_batch_bytes=MIB)
BATCH = json.dumps({"jobs": [{"payload": "x" * (MIB - 40)}]}).encode().ljust(MIB)
HEAD = b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
LARGE = HEAD % b"/jobs/batch" + b"content-length: %d\r\n" % MIB
CHUNKED = HEAD % b"/jobs/batch" + b"transfer-encoding: chunked\r\n\r\n"


@pytest.fixture
async def address(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Address]:
    """Serve an API with room for four large bodies, and job 17."""
    monkeypatch.setattr(BODIES, "most", 4 * MIB)
    world = Recorder()
    world.found = {17: a_job(17)}
    async with serving(world.api(LIMIT), "127.0.0.1:0", "--http-addr", grace=1.0) as address:
        yield address
    assert BODIES.reserved == 0


class Upload:
    """Connection of a client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> tuple[int, bytes]:
        """Return the status and the head of the next response."""
        async with asyncio.timeout(20):
            head = await self._reader.readuntil(b"\r\n\r\n")
        return int(head.split()[1]), head.lower()


@asynccontextmanager
async def connection(address: Address) -> AsyncIterator[Upload]:
    reader, writer = await asyncio.open_connection(*address[:2])
    try:
        yield Upload(reader, writer)
    finally:
        writer.close()


async def reserved(size: int) -> None:
    await wait_until_async(lambda: BODIES.reserved == size)


async def test_uploads_beyond_the_budget_are_turned_away_and_small_requests_get_through(address: Address) -> None:
    async with AsyncExitStack() as stack:
        uploads = [await stack.enter_async_context(connection(address)) for _ in range(10)]
        for upload in uploads[:4]:
            await upload.send(LARGE + b"\r\n" + BATCH[:-1])
        await reserved(4 * MIB)
        for upload in uploads[4:]:
            await upload.send(LARGE + b"\r\n" + BATCH)
            status, head = await upload.answer()
            assert (status, b"retry-after: 1" in head) == (503, True)
        async with connection(address) as small:
            job = json.dumps({"payload": "x" * (SMALL - 100)}).encode()
            await small.send(HEAD % b"/jobs" + b"content-length: %d\r\n\r\n" % len(job) + job)
            assert (await small.answer())[0] == 201
        async with connection(address) as small:
            await small.send(HEAD % b"/jobs/17/cancel" + b"content-length: 0\r\n\r\n")
            assert (await small.answer())[0] == 200
        for upload in uploads[:4]:
            await upload.send(BATCH[-1:])
            assert (await upload.answer())[0] == 201
        await reserved(0)


async def test_a_client_that_goes_away_gives_its_share_back(address: Address) -> None:
    async with connection(address) as upload:
        await upload.send(LARGE + b"\r\n" + BATCH[:-1])
        await reserved(MIB)
    await reserved(0)


async def test_a_body_without_a_length_is_counted_as_it_comes(address: Address) -> None:
    async with AsyncExitStack() as stack:
        uploads = [await stack.enter_async_context(connection(address)) for _ in range(5)]
        for upload in uploads[:4]:
            await upload.send(CHUNKED + b"%x\r\n%s" % (MIB, BATCH[:-1]))
        await reserved(4 * MIB - 4)
        await uploads[4].send(CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (MIB, BATCH))
        assert (await uploads[4].answer())[0] == 503
        for upload in uploads[:4]:
            await upload.send(BATCH[-1:] + b"\r\n0\r\n\r\n")
            assert (await upload.answer())[0] == 201
        await reserved(0)


async def test_a_client_that_asks_first_is_turned_away_before_it_sends(address: Address) -> None:
    async with AsyncExitStack() as stack:
        holders = [await stack.enter_async_context(connection(address)) for _ in range(4)]
        for holder in holders:
            await holder.send(LARGE + b"\r\n")
        await reserved(4 * MIB)
        async with connection(address) as upload:
            await upload.send(LARGE + b"expect: 100-continue\r\n\r\n")
            assert (await upload.answer())[0] == 503


async def test_a_body_that_is_too_large_reserves_nothing_and_gets_its_413(address: Address) -> None:
    async with connection(address) as upload:
        await upload.send(HEAD % b"/jobs/batch" + b"content-length: %d\r\n\r\n" % (2 * MIB) + b"x" * MIB)
        await asyncio.sleep(0.1)
        assert BODIES.reserved == 0
        await upload.send(b"x" * MIB)
        assert (await upload.answer())[0] == 413


def test_a_request_that_is_alone_may_be_larger_than_the_budget() -> None:
    budget = BodyBudget(most=10)
    assert budget.grow(0, 25)
    assert budget.grow(25, 30)
    assert not budget.grow(0, 1)
    budget.release(30)
    assert [budget.grow(0, size) for size in (6, 4, 1)] == [True, True, False]
    assert budget.reserved == 10
    assert body_budget.MOST == 128 * MIB
