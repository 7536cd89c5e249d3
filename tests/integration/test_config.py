"""Test the live configuration: validated, stored in PostgreSQL, spread by etcd, restored after a wipe, never partial."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec
import pytest

from taskd.config import ConfigEditor, Repairer, follow
from taskd.config import follower as follower_module
from taskd.config import repairer as keeper_module
from taskd.coordination.client import EtcdClient
from taskd.coordination.coordinator import EtcdCoordinator
from taskd.coordination.endpoints import parse
from taskd.coordination.keys import EtcdKeys
from taskd.dev.servers.etcd import EtcdServer
from taskd.domain.config import Version, check, encode
from taskd.domain.errors import CoordinatorUnavailable, InvalidLiveValue, StoreUnavailable
from taskd.domain.fencing import Term
from taskd.runtime.config import Config
from taskd.settings import EtcdSettings
from taskd.store.config import PostgresConfigStore
from taskd.store.lane import Lane
from tests.servers import wait_until_async


@dataclass
class Process:
    """Configuration of one process: its follower, its editor and its values."""

    coordinator: EtcdCoordinator
    store: PostgresConfigStore
    lane: Lane
    live: Config = field(default_factory=Config)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def editor(self) -> ConfigEditor:
        return ConfigEditor(self.store, self.coordinator, self.live)


class Cluster:
    """Processes on one PostgreSQL and one etcd."""

    def __init__(self, dsn: str, endpoint: str, prefix: str) -> None:
        self.dsn, self.endpoint, self.prefix = dsn, endpoint, prefix
        self.processes: list[Process] = []

    async def start(self, *, follows: bool = True, leads: bool = False) -> Process:
        coordinator = EtcdCoordinator(EtcdSettings(endpoints=self.endpoint, prefix=self.prefix, ttl=2))
        await coordinator.__aenter__()
        lane = Lane(self.dsn, name="taskd:live", deadline=5.0)
        process = Process(coordinator, PostgresConfigStore(lane), lane)
        self.processes.append(process)
        if follows:
            process.tasks.append(asyncio.create_task(follow(process.live, coordinator, process.store)))
        if leads:
            process.tasks.append(asyncio.create_task(Repairer(process.store, coordinator).run(Term(1, msgspec.UNSET))))  # type: ignore[arg-type]  # the keeper needs no fence
        return process

    async def close(self) -> None:
        for process in self.processes:
            for task in process.tasks:
                task.cancel()
            await asyncio.gather(*process.tasks, return_exceptions=True)
            await process.coordinator.__aexit__(None, None, None)
            await process.lane.close()


@pytest.fixture
async def cluster(postgres_dsn: str, etcd_endpoint: str, etcd_prefix: str) -> AsyncIterator[Cluster]:
    new_cluster = Cluster(postgres_dsn, etcd_endpoint, etcd_prefix)
    yield new_cluster
    await new_cluster.close()


async def spread(cluster: Cluster, version: Version) -> None:
    """Return when etcd has this version."""
    keys = EtcdKeys(cluster.prefix)

    async def there() -> bool:
        client = EtcdClient(parse(cluster.endpoint))
        try:
            return [kv.value for kv in (await client.listing(keys.live)).keys] == [encode(version)]
        except CoordinatorUnavailable:
            return False
        finally:
            await client.close()

    await wait_until_async(there, 30)


async def test_a_change_reaches_every_process_whole(cluster: Cluster) -> None:
    first, second = await cluster.start(), await cluster.start()
    await first.editor.set("queue.images.paused", True, "me")
    version = await first.editor.set("worker.concurrency", 5, "me")
    assert (version.version, version.who, version.what) == (2, "me", "set worker.concurrency = 5")
    await wait_until_async(lambda: second.live.now.version == 2)
    assert second.live.now == version == first.live.now
    assert (second.live.now.paused("images"), second.live.now.paused("other")) == (True, False)


async def test_who_comes_later_has_it_too(cluster: Cluster) -> None:
    first = await cluster.start()
    version = await first.editor.set("log.level", "DEBUG", "me")
    late = await cluster.start()
    await wait_until_async(lambda: late.live.now == version)


async def test_a_change_is_unset_and_rolled_back(cluster: Cluster) -> None:
    process = await cluster.start()
    await process.editor.set("worker.concurrency", 5, "me")
    await process.editor.set("worker.w1.concurrency", 7, "me")
    assert (process.live.now.concurrency("w1"), process.live.now.concurrency("w2")) == (7, 5)
    version = await process.editor.unset("worker.w1.concurrency", "you")
    assert (version.what, version.concurrency("w1")) == ("unset worker.w1.concurrency", 5)
    assert (
        await process.editor.unset("worker.w1.concurrency", "you") == version
    )  # a repetition, as after a lost response
    version = await process.editor.rollback(2, "you")
    assert (version.version, version.what, version.concurrency("w1")) == (4, "rollback to version 2", 7)
    assert (await process.editor.rollback(0, "you")).values == {}
    assert [v.version for v in await process.editor.history(10, 3)] == [5, 4, 3]


async def test_changes_at_one_time_are_all_kept(cluster: Cluster) -> None:
    processes = [await cluster.start() for _ in range(3)]
    await asyncio.gather(*(p.editor.set(f"queue.q{n}.weight", n + 1, "me") for n, p in enumerate(processes)))
    latest = await processes[0].store.latest()
    assert (latest.version, latest.values) == (3, {f"queue.q{n}.weight": n + 1 for n in range(3)})
    for process in processes:
        await wait_until_async(lambda p=process: p.live.now == latest)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("queue.q.paused", "yes"),
        ("queue.q.paused", 1),
        ("queue..paused", True),
        ("queue.q.weight", 0),
        ("worker.concurrency", 2.5),
        ("worker.concurrency", 100_000),
        ("history.keep_failed", -1),
        ("log.level", "LOUD"),
        ("nothing", 1),
        ("queue.paused", True),
    ],
)
async def test_a_bad_value_is_refused_with_the_reason(cluster: Cluster, key: str, value: object) -> None:
    process = await cluster.start(follows=False)
    with pytest.raises(InvalidLiveValue, match=key.replace(".", r"\.")):
        await process.editor.set(key, value, "me")
    assert await process.store.latest() == Version()


def test_names_may_have_dots() -> None:
    assert check("queue.a.b.paused", True) is True
    assert Version(version=1, values={"queue.a.b.paused": True}).paused("a.b")


@pytest.mark.parametrize("text", [b"no json", b'{"version": 99, "values": {"log.level": "LOUD"}}', b'{"version": "x"}'])
async def test_what_is_written_behind_our_back_is_ignored_and_put_right(
    cluster: Cluster, text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "AWAY", 0.05)
    monkeypatch.setattr(keeper_module, "EVERY", 0.2)
    process = await cluster.start(leads=True)
    version = await process.editor.set("log.level", "DEBUG", "me")
    await wait_until_async(lambda: process.coordinator.configuration == version)
    client = EtcdClient(parse(cluster.endpoint))
    await client.put(EtcdKeys(cluster.prefix).latest, text)
    await client.close()
    await spread(cluster, version)
    assert process.live.now == version


async def test_a_version_that_postgresql_does_not_know_never_counts(cluster: Cluster) -> None:
    """Test it with a value that would be valid, and newer than every later version."""
    process = await cluster.start()
    version = await process.editor.set("log.level", "DEBUG", "me")
    await process.coordinator.publish(Version(version=99, values={"log.level": "ERROR"}))
    await wait_until_async(
        lambda: process.coordinator.configuration is not None and process.coordinator.configuration.version == 99
    )
    version = await process.editor.set("log.level", "INFO", "me")
    await wait_until_async(lambda: process.live.now == version)


async def test_a_wiped_etcd_gets_it_back(
    postgres_dsn: str, private_etcd: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "AWAY", 0.05)
    monkeypatch.setattr(keeper_module, "EVERY", 0.2)
    cluster = Cluster(postgres_dsn, private_etcd.endpoint, "/taskd")
    try:
        process = await cluster.start(leads=True)
        version = await process.editor.set("queue.q.paused", True, "me")
        await wait_until_async(lambda: process.coordinator.configuration == version)
        private_etcd.kill()
        private_etcd.wipe()
        assert process.live.now == version
        private_etcd.start()
        await spread(cluster, version)
        assert process.live.now == version
    finally:
        await cluster.close()


async def test_without_etcd_postgresql_is_asked(
    postgres_dsn: str, private_etcd: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower_module, "AWAY", 0.05)
    cluster = Cluster(postgres_dsn, private_etcd.endpoint, "/taskd")
    try:
        first, second = await cluster.start(), await cluster.start()
        private_etcd.kill()
        await wait_until_async(lambda: not second.coordinator.health.ok, 30)
        version = await first.editor.set("queue.q.paused", True, "me")
        await wait_until_async(lambda: second.live.now == version)
    finally:
        await cluster.close()


async def test_without_postgresql_etcds_copy_counts(cluster: Cluster) -> None:
    process = await cluster.start()
    version = await process.editor.set("queue.q.paused", True, "me")

    class Away(PostgresConfigStore):
        async def latest(self) -> Version:
            raise StoreUnavailable("away")

    two = await cluster.start(follows=False)
    two.tasks.append(asyncio.create_task(follow(two.live, two.coordinator, Away(two.lane))))
    await wait_until_async(lambda: two.live.now == version)
