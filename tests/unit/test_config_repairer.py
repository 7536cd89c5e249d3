"""Tests of the repairer, with which the leader keeps etcd's copy of the configuration current."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import msgspec
import pytest

from taskd.config import repairer as module
from taskd.config.repairer import Repairer
from taskd.coordination.notifier import Notifier
from taskd.domain.config import Version
from taskd.domain.fencing import Term
from taskd.seams import Health
from tests.servers import wait_until_async


class FakeEtcd:
    """Fake of etcd as a process sees it."""

    def __init__(self) -> None:
        self.configuration = Version(version=1)
        self.health = Health(ok=True, since=0.0)
        self._notifier = Notifier()

    def becomes(self, *, ok: bool) -> None:
        self.health = Health(ok=ok, since=0.0)
        self._notifier.notify()

    def update_member(self) -> None:
        """Notify as when a worker has new figures."""
        self._notifier.notify()

    async def changed(self) -> None:
        await self._notifier.wait()

    async def publish(self, version: Version) -> None:
        self.configuration = version
        self._notifier.notify()


class FakePostgreSQL:
    """Fake of PostgreSQL with one version; it counts the reads."""

    def __init__(self) -> None:
        self.version, self.reads = 1, 0

    async def latest(self) -> Version:
        self.reads += 1
        return Version(version=self.version)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY", 3600.0)
    monkeypatch.setattr(module, "AWAY", 0.0)


async def test_a_version_from_an_outage_of_etcd_is_there_when_etcd_is_back() -> None:
    etcd, postgres = FakeEtcd(), FakePostgreSQL()
    repairing = asyncio.create_task(_repair(etcd, postgres))
    await wait_until_async(lambda: postgres.reads == 1)
    postgres.version = 2
    etcd.becomes(ok=False)
    await wait_until_async(lambda: postgres.reads == 2)
    etcd.becomes(ok=True)
    await wait_until_async(lambda: etcd.configuration.version == 2)
    repairing.cancel()


async def test_other_changes_in_etcd_cost_postgresql_nothing() -> None:
    etcd, postgres = FakeEtcd(), FakePostgreSQL()
    repairing = asyncio.create_task(_repair(etcd, postgres))
    await wait_until_async(lambda: postgres.reads == 1)
    for _ in range(10):
        etcd.update_member()
        for _ in range(10):  # enough turns for a comparison
            await asyncio.sleep(0)
    assert postgres.reads == 1
    etcd.configuration = Version(version=0)
    etcd.update_member()
    await wait_until_async(lambda: etcd.configuration.version == 1)
    assert postgres.reads == 2
    repairing.cancel()


async def _repair(etcd: FakeEtcd, postgres: FakePostgreSQL) -> None:
    await Repairer(cast(Any, postgres), cast(Any, etcd)).run(Term(1, msgspec.UNSET))  # type: ignore[arg-type]  # it needs no fence
