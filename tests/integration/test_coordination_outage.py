"""Test outages of etcd: no caller is blocked, the log stays quiet, and everything recovers by itself."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from taskd.dev.servers.binaries import Binaries
from taskd.dev.servers.etcd import EtcdServer
from tests.integration.etcd_world import coordinator, first_of, member, until


async def test_starting_without_etcd_works_and_joins_when_it_comes(
    server_binaries: Binaries, private_folder: Path
) -> None:
    server = EtcdServer(server_binaries.etcd, private_folder / "etcd", log=private_folder / "etcd.log")
    with capture_logs() as lines:
        async with (
            coordinator(server.endpoint) as one,
            one.campaign("one", uuid4()) as campaign,
            one.register(member, 60),
        ):
            assert (one.health.ok, first_of(one), one.members("worker")) == (False, None, {})
            with pytest.raises(TimeoutError):
                await until(one, lambda: one.health.ok or campaign.won, timeout=3)
            assert "cannot be reached" in one.health.detail
            server.launch()
            try:
                await until(one, lambda: campaign.won is not None and one.members("worker"))
                health = one.health
            finally:
                server.kill()
    assert health.ok
    assert [line["event"] for line in lines][:2] == ["etcd is away; retrying", "etcd answers again"]


async def test_an_outage_is_two_lines_in_the_log(private_etcd: EtcdServer) -> None:
    with capture_logs() as lines:
        async with (
            coordinator(private_etcd.endpoint) as one,
            one.campaign("one", uuid4()) as campaign,
            one.register(member, 0.2),
        ):
            await until(one, lambda: campaign.won is not None and one.members("worker"))
            assert lines == []
            private_etcd.kill()
            assert await until(one, lambda: not one.health.ok and first_of(one) is None) < 9
            assert list(one.members("worker")) == ["worker-1"]
            private_etcd.launch()
            await until(one, lambda: one.health.ok and campaign.won is not None and first_of(one) is not None)
    assert [line["event"] for line in lines] == ["etcd is away; retrying", "etcd answers again"]


async def test_after_ten_frozen_seconds_everything_is_back(private_etcd: EtcdServer) -> None:
    async with (
        coordinator(private_etcd.endpoint) as one,
        one.campaign("one", uuid4()) as campaign,
        one.register(member, 60),
    ):
        await until(one, lambda: campaign.won is not None and one.members("worker"))
        began = time.monotonic()
        private_etcd.suspend()
        await until(one, lambda: not one.health.ok)
        async with asyncio.timeout_at(asyncio.get_running_loop().time() + 10 - (time.monotonic() - began)) as frozen:
            while not frozen.expired():
                try:
                    await one.changed()
                except asyncio.CancelledError:
                    break
        private_etcd.resume()
        await until(one, lambda: one.health.ok and campaign.won is not None and first_of(one) is not None)
        await until(one, lambda: list(one.members("worker")) == ["worker-1"])


@pytest.mark.parametrize("how", ["kill", "suspend"])
async def test_leaving_while_etcd_is_away_takes_two_seconds_at_most(private_etcd: EtcdServer, how: str) -> None:
    async with (
        coordinator(private_etcd.endpoint) as one,
        one.campaign("one", uuid4()) as campaign,
        one.register(member, 60),
        one.lock("printer"),
    ):
        await until(one, lambda: campaign.won is not None and one.members("worker"))
        getattr(private_etcd, how)()
        began = time.monotonic()
    assert time.monotonic() - began < 2


async def test_leaving_a_coordinator_that_never_met_etcd_is_quick() -> None:
    began = time.monotonic()
    async with coordinator("127.0.0.1:9") as one, one.campaign("one", uuid4()), one.register(member, 60):
        await until(one, lambda: "cannot be reached" in one.health.detail)
        began = time.monotonic()
    assert time.monotonic() - began < 2


async def test_changed_wakes_for_leader_members_and_health(private_etcd: EtcdServer) -> None:
    async with coordinator(private_etcd.endpoint) as one, coordinator(private_etcd.endpoint) as other:
        await until(one, lambda: one.health.ok)
        async with other.campaign("other", uuid4()):
            await until(one, lambda: first_of(one) is not None)
        await until(one, lambda: first_of(one) is None)
        async with other.register(member, 60):
            await until(one, lambda: one.members("worker"))
        await until(one, lambda: not one.members("worker"))
        private_etcd.kill()
        await until(one, lambda: not one.health.ok)
