"""Test a primary, a replica and a Sentinel: when the primary dies, doorbells go to the other server."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import redis

from taskd.dev.child_process import Program
from taskd.dev.servers.binaries import Binaries
from taskd.dev.servers.ports import LOOPBACK
from taskd.dev.servers.server import Server, environment
from taskd.dev.servers.valkey import RedisServer
from taskd.domain.errors import ConfigurationError, TransportUnavailable
from taskd.domain.fencing import Dispatch
from taskd.settings import RedisSettings
from taskd.transport.stream import RedisTransport
from tests.servers import wait_until, wait_until_async
from tests.tls import Authority, front

NAME = "primary"


class SentinelServer(Server):
    """Single Sentinel, which decides alone."""

    title: ClassVar[str] = "Sentinel"
    stop_signal: ClassVar[int] = signal.SIGTERM

    def __init__(self, binary: Path, folder: Path, *, log: Path, primary: int) -> None:
        super().__init__(binary, folder, log=log)
        self._primary = primary

    def prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "sentinel.conf").write_text(
            f"port {self.port}\nbind {LOOPBACK}\ndir {self.folder}\n"
            f"sentinel monitor {NAME} {LOOPBACK} {self._primary} 1\n"
            f"sentinel down-after-milliseconds {NAME} 500\nsentinel failover-timeout {NAME} 3000\n"
        )

    def program(self) -> Program:
        argv: list[str | Path] = [self.binary, str(self.folder / "sentinel.conf"), "--sentinel"]
        return Program(argv=argv, environment=environment(("REDIS_", "VALKEY_")))

    def probe(self) -> str | None:
        try:
            with self.connect() as client:
                client.ping()
        except (redis.RedisError, OSError) as error:
            return str(error)
        return None

    def replicas(self) -> int:
        """Return the number of replicas that it could promote."""
        with self.connect() as client:
            return sum("down" not in str(replica["flags"]) for replica in client.sentinel_slaves(NAME))

    def connect(self) -> redis.Redis:
        return redis.Redis(host=LOOPBACK, port=self.port, socket_timeout=2, decode_responses=True)


@pytest.fixture
def trio(server_binaries: Binaries, private_folder: Path) -> Iterator[tuple[RedisServer, RedisServer, SentinelServer]]:
    binary = server_binaries.redis
    one, two = (
        RedisServer(binary, private_folder / name, log=private_folder / f"{name}.log", durable=False)
        for name in ("one", "two")
    )
    one.start()
    two.start()
    sentinel = SentinelServer(binary, private_folder / "s", log=private_folder / "sentinel.log", primary=one.port)
    try:
        with two.connect() as client:
            client.replicaof(LOOPBACK, one.port)
        sentinel.start()
        wait_until(lambda: sentinel.replicas() == 1)
        yield one, two, sentinel
    finally:
        for server in (sentinel, two, one):
            server.kill()


async def test_after_a_failover_bells_ring_at_the_new_primary(
    trio: tuple[RedisServer, RedisServer, SentinelServer],
) -> None:
    one, _, sentinel = trio
    settings = RedisSettings(url=f"redis+sentinel://{LOOPBACK}:{sentinel.port}/{NAME}")
    leader, worker = RedisTransport(settings), RedisTransport(settings, consumer="w")

    async def rings() -> bool:
        try:
            await leader.ring([Dispatch(2, 1, "default", 0)])
        except TransportUnavailable:
            return False
        return True

    async def hears() -> list[int]:
        try:
            return [delivery.job_id for delivery in await worker.fetch(["default"], 9, 0.0)]
        except TransportUnavailable:
            return []

    try:
        await leader.ring([Dispatch(1, 1, "default", 0)])
        assert await wait_until_async(hears) == [1]
        one.kill()
        await wait_until_async(rings, 60)
        assert 2 in await wait_until_async(hears, 60)
    finally:
        await leader.close()
        await worker.close()


async def test_by_tls_both_the_sentinels_and_the_primary_are_asked(
    trio: tuple[RedisServer, RedisServer, SentinelServer], private_folder: Path
) -> None:
    """Test a Sentinel with TLS and a primary without, which never answers a TLS greeting.

    A client that waits for that answer has received the primary's address.
    """
    *_, sentinel = trio
    authority = Authority(private_folder)
    async with front(sentinel.port, authority.issue()) as port:
        url = f"rediss+sentinel://{LOOPBACK}:{port}/{NAME}"
        trusting = RedisTransport(RedisSettings(url=url, ca_file=authority.file))
        doubting = RedisTransport(RedisSettings(url=url, ca_file=Authority(private_folder).file))
        try:
            with pytest.raises(TransportUnavailable, match="Timeout connecting"):
                await trusting.ping()
            with pytest.raises(TransportUnavailable, match="No master found"):
                await doubting.ping()
        finally:
            await trusting.close()
            await doubting.close()


@pytest.mark.parametrize("url", ["redis+sentinel://", "redis+sentinel://h:1", "redis+sentinel://h:x/n", "redis+sentinel:///n",
                                 "redis+sentinel://h:1/n/x", "redis+sentinel://h:1/n?db=1"])  # fmt: skip
def test_a_url_of_another_form_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"redis\+sentinel://"):
        RedisTransport(RedisSettings(url=url))
