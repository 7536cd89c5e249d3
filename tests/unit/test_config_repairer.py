"""The leader's care for etcd's copy of the live configuration."""

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


class Etcd:
    """What a process sees of it."""

    def __init__(self) -> None:
        self.configuration = Version(version=1)
        self.health = Health(ok=True, since=0.0)
        self._bell = Notifier()

    def becomes(self, *, ok: bool) -> None:
        self.health = Health(ok=ok, since=0.0)
        self._bell.notify()

    def figures(self) -> None:
        """Some worker's figures have changed."""
        self._bell.notify()

    async def changed(self) -> None:
        await self._bell.wait()

    async def publish(self, version: Version) -> None:
        self.configuration = version
        self._bell.notify()


class PostgreSQL:
    def __init__(self) -> None:
        self.version, self.asked = 1, 0

    async def latest(self) -> Version:
        self.asked += 1
        return Version(version=self.version)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY", 3600.0)
    monkeypatch.setattr(module, "AWAY", 0.0)


async def test_what_was_set_while_etcd_was_away_is_there_when_it_is_back() -> None:
    etcd, postgres = Etcd(), PostgreSQL()
    keeping = asyncio.create_task(_keeper(etcd, postgres))
    await wait_until_async(lambda: postgres.asked == 1)
    postgres.version = 2
    etcd.becomes(ok=False)
    await wait_until_async(lambda: postgres.asked == 2)
    etcd.becomes(ok=True)
    await wait_until_async(lambda: etcd.configuration.version == 2)
    keeping.cancel()


async def test_other_news_of_etcds_costs_postgresql_nothing() -> None:
    etcd, postgres = Etcd(), PostgreSQL()
    keeping = asyncio.create_task(_keeper(etcd, postgres))
    await wait_until_async(lambda: postgres.asked == 1)
    for _ in range(10):
        etcd.figures()
        for _ in range(10):  # as many turns as a comparison would need
            await asyncio.sleep(0)
    assert postgres.asked == 1
    etcd.configuration = Version(version=0)
    etcd.figures()
    await wait_until_async(lambda: etcd.configuration.version == 1)
    assert postgres.asked == 2
    keeping.cancel()


async def _keeper(etcd: Etcd, postgres: PostgreSQL) -> None:
    await Repairer(cast(Any, postgres), cast(Any, etcd)).run(Term(1, msgspec.UNSET))  # type: ignore[arg-type]  # it needs no fence
