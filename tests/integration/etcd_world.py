"""Helpers of the coordination tests: coordinators with short leases, members, other processes, and a real cluster."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import msgspec
from aetcd import rpc

from taskd.coordination import EtcdCoordinator
from taskd.dev.child_process import Program
from taskd.dev.servers.etcd import EtcdServer
from taskd.dev.servers.ports import LOOPBACK, free_port
from taskd.seams import Coordinator, Leader, Member, MemberKind
from taskd.settings import EtcdSettings

TTL = 2.0
DEADLINE = 20.0


def coordinator(
    endpoint: str, prefix: str = "/taskd", ttl: float = TTL, worker: str | None = None, shards: int = 1
) -> EtcdCoordinator:
    """Return a coordinator that is not running yet."""
    return EtcdCoordinator(EtcdSettings(endpoints=endpoint, prefix=prefix, ttl=ttl), worker=worker, shards=shards)


def first_of(one: Coordinator, shard: int = 0) -> Leader | None:
    """Return the leader of a shard, as `one` sees it."""
    return next(iter(one.line(shard)), None)


def accepted(one: Coordinator) -> Coordinator:
    """Return the argument; mypy checks here that the coordinator fulfils the seam."""
    return one


async def until(one: Coordinator, condition: Any, timeout: float = DEADLINE) -> float:
    """Wait with `changed` until the condition holds; return the seconds."""
    began = time.monotonic()
    async with asyncio.timeout(timeout):
        while not condition():
            await one.changed()
    return time.monotonic() - began


async def has_keys(endpoint: str, folder: str, count: int) -> None:
    """Wait until a folder has `count` keys."""
    async with asyncio.timeout(DEADLINE):
        while True:
            if len(await keys_under(endpoint, folder)) == count:
                return
            await asyncio.sleep(0.02)


async def has_other_keys(endpoint: str, folder: str, before: list[str]) -> None:
    """Wait until a folder has as many keys as before, and none of those."""
    async with asyncio.timeout(DEADLINE):
        while True:
            now = await keys_under(endpoint, folder)
            if len(now) == len(before) and not set(now) & set(before):
                return
            await asyncio.sleep(0.02)


def member(kind: MemberKind = "worker", member_id: str = "worker-1", **more: Any) -> Member:
    """Return a member of the registry."""
    known: dict[str, Any] = {
        "incarnation": uuid4(),
        "address": "127.0.0.1:9090",
        "host": "here",
        "pid": 17,
        "started_at": 1.5,
    }
    return Member(kind=kind, id=member_id, **(known | more))


CANDIDATE = """
import asyncio, sys, uuid
from taskd.coordination import EtcdCoordinator
from taskd.seams import Member
from taskd.settings import EtcdSettings

name = sys.argv[3]
shown = Member(kind="worker", id=name, incarnation=uuid.uuid4(), address="", host="", pid=1, started_at=1.0)

async def main():
    async with (
        EtcdCoordinator(EtcdSettings(endpoints=sys.argv[1], prefix=sys.argv[2], ttl=2)) as coordinator,
        coordinator.campaign(name, uuid.uuid4()) as campaign,
        coordinator.register(lambda: shown, 60),
    ):
        told = None
        while True:
            if (campaign.won is not None) != told:
                told = campaign.won is not None
                print("won" if told else "lost", flush=True)
            await coordinator.changed()

asyncio.run(main())
"""


@asynccontextmanager
async def candidate_process(endpoint: str, prefix: str, name: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run another process that is a worker and a candidate, and prints `won` and `lost`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CANDIDATE, endpoint, prefix, name, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def says(process: asyncio.subprocess.Process, word: str) -> None:
    """Wait until the process prints this line."""
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE):
        while (line := await process.stdout.readline()).decode().strip() != word:
            assert line, "the process ended"


@asynccontextmanager
async def raw(endpoint: str) -> AsyncIterator[Any]:
    """Yield etcd's KV stub, for calls that the coordinator never makes."""
    async with grpc.aio.insecure_channel(endpoint) as channel:
        yield rpc.KVStub(channel)


async def put(endpoint: str, key: str, value: bytes) -> int:
    """Put a key without the coordinator; return the revision."""
    async with raw(endpoint) as kv:
        reply = await kv.Put(rpc.PutRequest(key=key.encode(), value=value), timeout=5)
        return int(reply.header.revision)


async def keys_under(endpoint: str, prefix: str) -> list[str]:
    """Return all keys under a prefix."""
    async with raw(endpoint) as kv:
        start = prefix.encode()
        reply = await kv.Range(rpc.RangeRequest(key=start, range_end=start + b"\xff", keys_only=True), timeout=5)
        return [pair.key.decode() for pair in reply.kvs]


async def delete(endpoint: str, key: str) -> None:
    """Delete a key without the coordinator."""
    async with raw(endpoint) as kv:
        await kv.DeleteRange(rpc.DeleteRangeRequest(key=key.encode()), timeout=5)


async def compact(endpoint: str, revision: int) -> None:
    """Compact etcd up to a revision."""
    async with raw(endpoint) as kv:
        await kv.Compact(rpc.CompactionRequest(revision=revision, physical=True), timeout=5)


class ClusterMember(EtcdServer):
    """One of three etcd servers of a cluster."""

    def join(self, name: str, cluster: dict[str, int]) -> None:
        """Set its name, and the names and peer ports of all members."""
        self._name = name
        self._cluster = cluster

    def program(self) -> Program:
        peer = f"http://{LOOPBACK}:{self._cluster[self._name]}"
        cluster = ",".join(f"{name}=http://{LOOPBACK}:{port}" for name, port in self._cluster.items())
        alone = super().program()
        more = [
            f"--name={self._name}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster={cluster}",
        ]
        return msgspec.structs.replace(alone, argv=[*alone.argv, *more])  # the last of repeated flags counts


@contextmanager
def cluster_of_three(binary: Path, folder: Path) -> Iterator[list[ClusterMember]]:
    """Run three etcd servers as one cluster."""
    names = {f"etcd{number}": free_port() for number in range(3)}
    servers = [ClusterMember(binary, folder / name, log=folder / f"{name}.log") for name in names]
    try:
        for name, server in zip(names, servers, strict=True):
            server.join(name, names)
            server.launch()
        for server in servers:
            server.await_ready()
        yield servers
    finally:
        for server in servers:
            server.kill()
