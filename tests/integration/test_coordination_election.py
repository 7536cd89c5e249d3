"""Test elections on a real etcd. Tests that disturb the server have a private one."""

from __future__ import annotations

import shutil
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from uuid import uuid4

from taskd.dev.servers.binaries import Binaries
from taskd.dev.servers.etcd import EtcdServer
from taskd.seams import Coordinator
from tests.integration.etcd_world import (
    TTL,
    accepted,
    candidate_process,
    cluster_of_three,
    coordinator,
    delete,
    first_of,
    has_keys,
    keys_under,
    put,
    says,
    until,
)
from tests.servers import wait_until_async


async def test_one_of_three_candidates_wins_and_all_see_it(etcd_endpoint: str, etcd_prefix: str) -> None:
    async with AsyncExitStack() as stack:
        many = [accepted(await stack.enter_async_context(coordinator(etcd_endpoint, etcd_prefix))) for _ in range(3)]
        holders = [uuid4() for _ in many]
        campaigns = [
            await stack.enter_async_context(one.campaign(f"s{number}", holders[number]))
            for number, one in enumerate(many)
        ]
        for one in many:
            await until(one, partial(_led, one))
        won = [campaign.won for campaign in campaigns]
        await wait_until_async(lambda: len([c.won for c in campaigns if c.won is not None]) == 1)
        winner = next(number for number, campaign in enumerate(campaigns) if campaign.won is not None)
        for one in many:
            leader = first_of(one)
            assert leader is not None
            assert leader.instance_id == f"s{winner}"
            assert leader.holder == holders[winner]
            assert leader.revision == campaigns[winner].won
        assert won.count(None) >= 2


async def test_a_candidate_that_withdraws_harms_no_other_and_may_stand_again(
    etcd_endpoint: str, etcd_prefix: str
) -> None:
    async with coordinator(etcd_endpoint, etcd_prefix) as first, coordinator(etcd_endpoint, etcd_prefix) as second:
        async with first.campaign("first", uuid4()) as leader:
            await until(first, lambda: leader.won)
            won = leader.won
            for _ in range(3):
                async with second.campaign("second", uuid4()) as waiting:
                    await has_keys(etcd_endpoint, f"{etcd_prefix}/election/", 2)
                    assert waiting.won is None
            assert leader.won == won
        async with second.campaign("second", uuid4()) as again:
            await until(second, lambda: again.won)


async def test_a_successor_leads_within_a_second_of_a_withdrawal(etcd_endpoint: str, etcd_prefix: str) -> None:
    async with coordinator(etcd_endpoint, etcd_prefix) as first, coordinator(etcd_endpoint, etcd_prefix) as second:
        async with second.campaign("second", uuid4()) as successor:
            await until(second, lambda: successor.won)
        async with AsyncExitStack() as leading:
            leader = await leading.enter_async_context(first.campaign("first", uuid4()))
            await until(first, lambda: leader.won)
            async with second.campaign("second", uuid4()) as successor:
                await has_keys(etcd_endpoint, f"{etcd_prefix}/election/", 2)
                won = leader.won
                await leading.aclose()
                assert leader.won is None
                assert await until(second, lambda: successor.won) < 1
                assert won is not None
                assert successor.won is not None
                assert successor.won > won
                await until(first, lambda: [who.instance_id for who in first.line(0)] == ["second"])


async def test_ending_the_coordinator_hands_over_within_a_second(etcd_endpoint: str, etcd_prefix: str) -> None:
    first = coordinator(etcd_endpoint, etcd_prefix, ttl=60)
    await first.__aenter__()
    campaign = first.campaign("first", uuid4())
    leader = await campaign.__aenter__()
    await until(first, lambda: leader.won)
    async with (
        coordinator(etcd_endpoint, etcd_prefix, ttl=60) as second,
        second.campaign("second", uuid4()) as successor,
    ):
        await has_keys(etcd_endpoint, f"{etcd_prefix}/election/", 2)
        await first.__aexit__()
        assert leader.won is None
        assert await until(second, lambda: successor.won) < 1
        await campaign.__aexit__(None, None, None)  # too late, without an effect


async def test_a_killed_leader_is_replaced_when_its_lease_has_run_out(etcd_endpoint: str, etcd_prefix: str) -> None:
    async with (
        coordinator(etcd_endpoint, etcd_prefix) as one,
        candidate_process(etcd_endpoint, etcd_prefix, "doomed") as process,
    ):
        await says(process, "won")
        async with one.campaign("heir", uuid4()) as heir:
            await has_keys(etcd_endpoint, f"{etcd_prefix}/election/", 2)
            assert heir.won is None
            process.kill()
            assert await until(one, lambda: heir.won) < TTL + 3


async def test_a_deleted_candidacy_is_lost_and_stands_again(etcd_endpoint: str, etcd_prefix: str) -> None:
    async with coordinator(etcd_endpoint, etcd_prefix) as one, one.campaign("one", uuid4()) as campaign:
        await until(one, lambda: campaign.won)
        before = campaign.won
        assert before is not None
        (key,) = await keys_under(etcd_endpoint, f"{etcd_prefix}/election/")
        await delete(etcd_endpoint, key)
        await until(one, lambda: campaign.won is not None and campaign.won > before)


async def test_a_foreign_key_among_the_candidates_makes_no_leader(etcd_endpoint: str, etcd_prefix: str) -> None:
    await put(etcd_endpoint, f"{etcd_prefix}/election/junk", b"\xff no JSON")
    async with coordinator(etcd_endpoint, etcd_prefix) as one, one.campaign("one", uuid4()) as campaign:
        await until(one, lambda: campaign.won and first_of(one))
        leader = first_of(one)
        assert leader is not None
        assert leader.instance_id == "one"


async def test_a_frozen_etcd_ends_leadership_locally_and_it_returns_by_itself(private_etcd: EtcdServer) -> None:
    endpoint = private_etcd.endpoint
    async with coordinator(endpoint) as one, one.campaign("one", uuid4()) as campaign:
        await until(one, lambda: campaign.won)
        private_etcd.suspend()
        assert await until(one, lambda: campaign.won is None) <= TTL + 0.5
        assert await until(one, lambda: first_of(one) is None and not one.health.ok) < 9
        assert private_etcd.endpoint in one.health.detail
        private_etcd.resume()
        await until(one, lambda: campaign.won is not None and first_of(one) is not None and one.health.ok)
        await has_keys(endpoint, "/taskd/election/", 1)


async def test_a_quick_restart_of_etcd_costs_no_leadership(private_etcd: EtcdServer) -> None:
    async with coordinator(private_etcd.endpoint, ttl=10) as one, one.campaign("one", uuid4()) as campaign:
        await until(one, lambda: first_of(one))
        won = campaign.won
        private_etcd.kill()
        await until(one, lambda: first_of(one) is None)
        assert campaign.won == won
        private_etcd.launch()
        await until(one, lambda: first_of(one))
        assert campaign.won == won
        leader = first_of(one)
        assert leader is not None
        assert leader.revision == won


async def test_a_wiped_etcd_elects_again(private_etcd: EtcdServer) -> None:
    endpoint = private_etcd.endpoint
    async with (
        coordinator(endpoint) as first,
        coordinator(endpoint) as second,
        first.campaign("first", uuid4()) as one,
        second.campaign("second", uuid4()) as other,
    ):
        await has_keys(endpoint, "/taskd/election/", 2)
        for _ in range(20):
            last = await put(endpoint, "/elsewhere", b"makes the revisions high")
        private_etcd.wipe()
        private_etcd.launch()
        await until(first, lambda: (one.won or last) < last or (other.won or last) < last)
        private_etcd.await_ready()
        await has_keys(endpoint, "/taskd/election/", 2)
        await wait_until_async(lambda: [one.won, other.won].count(None) == 1)
        await wait_until_async(lambda: first_of(first) == first_of(second) and first_of(first) is not None)


async def test_a_candidacy_that_a_snapshot_brings_back_does_not_lead_for_ever(
    private_etcd: EtcdServer, tmp_path: Path
) -> None:
    """Test it with a candidacy that was withdrawn after the snapshot and whose lease is still renewed."""
    endpoint = private_etcd.endpoint
    async with coordinator(endpoint, ttl=5) as first, coordinator(endpoint, ttl=5) as second:
        async with first.campaign("first", uuid4()) as one:
            await until(first, lambda: one.won)
            private_etcd.kill()
            shutil.copytree(private_etcd.folder, tmp_path / "snapshot")
            private_etcd.launch()
            await until(first, lambda: first_of(first))
        async with second.campaign("second", uuid4()) as other:
            await until(second, lambda: other.won)
            private_etcd.wipe()
            shutil.copytree(tmp_path / "snapshot", private_etcd.folder)
            private_etcd.launch()
            private_etcd.await_ready()
            await until(second, lambda: (leader := first_of(second)) and leader.instance_id == "second" and other.won)
            await has_keys(endpoint, "/taskd/election/", 1)


async def test_a_cluster_of_three_keeps_the_leader_while_its_members_die(
    server_binaries: Binaries, private_folder: Path
) -> None:
    with cluster_of_three(server_binaries.etcd, private_folder) as servers:
        endpoints = ",".join(server.endpoint for server in servers)
        async with (
            coordinator(endpoints, ttl=5) as one,
            coordinator(endpoints, ttl=5) as other,
            one.campaign("one", uuid4()) as campaign,
        ):
            await until(one, lambda: campaign.won)
            won = campaign.won
            for server in servers:
                server.suspend()
                async with other.campaign("other", uuid4()):
                    await until(other, lambda: len(other.members("worker")) == 0 and first_of(other) is not None)
                    async with one.lock("busy", wait=10):
                        assert campaign.won == won
                server.resume()
                server.kill()
                await until(one, lambda: first_of(one) is not None)
                assert campaign.won == won
                server.launch()
                await wait_until_async(partial(_answers, server))


def _led(one: Coordinator) -> bool:
    return first_of(one) is not None


def _answers(server: EtcdServer) -> bool:
    return server.probe() is None
