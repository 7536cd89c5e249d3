"""Test watches that break: no event is lost or repeated, and another history is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from taskd.coordination.client import EtcdClient
from taskd.coordination.endpoints import parse
from taskd.coordination.mirror import Mirror
from taskd.coordination.notifier import Notifier
from taskd.coordination.records import WatchEvent
from taskd.dev.servers.etcd import EtcdServer
from tests.integration.etcd_world import compact, delete, put
from tests.servers import wait_until_async

FOLDER = "/mirror/"


class Follower:
    """Follower of a folder that records its events."""

    def __init__(self, endpoint: str) -> None:
        self.client = EtcdClient(parse(endpoint))
        self.mirror: Mirror[bytes] = Mirror(self.client, FOLDER, bytes, Notifier())
        self.seen: list[WatchEvent] = []

    async def follow(self) -> None:
        async with aclosing(self.mirror.changes()) as changes:
            async for events in changes:
                self.seen += events

    @property
    def values(self) -> dict[str, bytes]:
        return {key.removeprefix(FOLDER): entry.value for key, entry in self.mirror.entries.items()}


@asynccontextmanager
async def following(endpoint: str) -> AsyncIterator[Follower]:
    follower = Follower(endpoint)
    task = asyncio.create_task(follower.follow())
    try:
        await wait_until_async(lambda: follower.mirror.synced)
        yield follower
    finally:
        task.cancel()
        await asyncio.wait({task})
        await follower.client.close()


async def test_a_watch_loses_and_doubles_nothing_over_restarts(private_etcd: EtcdServer) -> None:
    endpoint = private_etcd.endpoint
    async with following(endpoint) as follower:
        written = []
        for start in range(3):
            for number in range(20):
                value = f"{start}-{number}".encode()
                written.append(value)
                await put(endpoint, f"{FOLDER}{number % 7}", value)
                if number == 10:
                    private_etcd.kill()
                    private_etcd.launch()
                    private_etcd.await_ready()
        await wait_until_async(lambda: len(follower.seen) >= len(written))
        assert [event.kv.value for event in follower.seen] == written
        assert follower.values == {
            str(number % 7): value for number, value in zip([*range(20)] * 3, written, strict=True)
        }


async def test_a_deleted_key_vanishes(private_etcd: EtcdServer) -> None:
    endpoint = private_etcd.endpoint
    await put(endpoint, f"{FOLDER}old", b"1")
    async with following(endpoint) as follower:
        assert follower.values == {"old": b"1"}
        await delete(endpoint, f"{FOLDER}old")
        await wait_until_async(lambda: not follower.values)
        assert follower.mirror.lacks(f"{FOLDER}old", 1)


async def test_a_compaction_during_a_break_is_repaired_by_listing_anew(private_etcd: EtcdServer) -> None:
    endpoint = private_etcd.endpoint
    await put(endpoint, f"{FOLDER}gone", b"1")
    async with following(endpoint) as follower:
        follower.client._rotate(follower.client._servers[0])  # breaks the watch, as a failed call does
        await delete(endpoint, f"{FOLDER}gone")
        last = await put(endpoint, f"{FOLDER}new", b"2")
        await compact(endpoint, last)
        await wait_until_async(lambda: follower.mirror.synced and follower.values == {"new": b"2"})


async def test_another_past_is_noticed_even_if_its_revisions_have_overtaken_ours(private_etcd: EtcdServer) -> None:
    endpoint = private_etcd.endpoint
    await put(endpoint, f"{FOLDER}before", b"1")
    async with following(endpoint) as follower:
        own_revision = follower.mirror.revision
        private_etcd.wipe()
        private_etcd.launch()
        private_etcd.await_ready()
        # The event loop is blocked until here, so that the writes pass the follower's revision before it can resume.
        first = await put(endpoint, f"{FOLDER}after", b"2")
        assert first <= own_revision + 1
        for _ in range(10):
            await put(endpoint, "/elsewhere", b"3")
        await wait_until_async(lambda: follower.mirror.synced and follower.values == {"after": b"2"})


async def test_an_etcd_with_lower_revisions_is_listed_anew(private_etcd: EtcdServer) -> None:
    endpoint = private_etcd.endpoint
    for number in range(20):
        await put(endpoint, f"{FOLDER}{number}", b"1")
    async with following(endpoint) as follower:
        assert len(follower.values) == 20
        private_etcd.wipe()
        private_etcd.launch()
        await wait_until_async(lambda: follower.mirror.synced and not follower.values)
        private_etcd.await_ready()
        await put(endpoint, f"{FOLDER}new", b"2")
        await wait_until_async(lambda: follower.values == {"new": b"2"})


async def test_a_frozen_server_is_noticed_by_a_waiting_watch(private_etcd: EtcdServer) -> None:
    async with following(private_etcd.endpoint) as follower:
        private_etcd.suspend()
        await wait_until_async(lambda: not follower.mirror.synced, timeout=16)
        private_etcd.resume()
        await wait_until_async(lambda: follower.mirror.synced)
