"""Test the registry on a real etcd."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from functools import partial
from uuid import uuid4

import msgspec
import pytest

from taskd.coordination import EtcdCoordinator
from taskd.dev.servers.etcd import EtcdServer
from tests.integration.etcd_world import (
    TTL,
    candidate_process,
    coordinator,
    delete,
    first_of,
    has_keys,
    has_other_keys,
    keys_under,
    member,
    put,
    says,
    until,
)


async def test_members_of_both_kinds_appear_and_disappear(etcd_endpoint: str, etcd_prefix: str) -> None:
    worker = member("worker", "worker/1", queues=["a", "b"], slots=8, tasks=["echo"], stats={"running": 2.0})
    scheduler = member("scheduler", "s1")
    async with coordinator(etcd_endpoint, etcd_prefix) as one, coordinator(etcd_endpoint, etcd_prefix) as other:
        async with one.register(lambda: worker, 60), one.register(lambda: scheduler, 60):
            await until(other, lambda: other.members("worker") and other.members("scheduler"))
            assert other.members("worker") == {"worker/1": worker}
            assert other.members("scheduler") == {"s1": scheduler}
        assert await until(other, lambda: not other.members("worker") and not other.members("scheduler")) < 1
        assert await keys_under(etcd_endpoint, f"{etcd_prefix}/members/") == []


async def test_statistics_are_refreshed_and_unchanged_ones_cost_no_write(etcd_endpoint: str, etcd_prefix: str) -> None:
    shown = member(stats={"done": 0.0})
    async with (
        coordinator(etcd_endpoint, etcd_prefix) as one,
        coordinator(etcd_endpoint, etcd_prefix) as other,
        one.register(lambda: shown, 0.05),
    ):
        await until(other, lambda: other.members("worker"))
        shown = msgspec.structs.replace(shown, stats={"done": 1.0})
        await until(other, lambda: other.members("worker")["worker-1"].stats == {"done": 1.0})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await other.changed()


async def test_a_process_that_dies_without_a_word_vanishes_with_its_lease(etcd_endpoint: str, etcd_prefix: str) -> None:
    async with (
        coordinator(etcd_endpoint, etcd_prefix) as other,
        candidate_process(etcd_endpoint, etcd_prefix, "doomed") as process,
    ):
        await says(process, "won")
        await until(other, lambda: "doomed" in other.members("worker"))
        process.kill()
        assert await until(other, lambda: not other.members("worker")) < TTL + 3


async def test_of_two_with_one_id_the_later_is_shown_and_then_the_earlier(etcd_endpoint: str, etcd_prefix: str) -> None:
    earlier, later = member(), member()
    async with (
        coordinator(etcd_endpoint, etcd_prefix) as one,
        coordinator(etcd_endpoint, etcd_prefix) as other,
        one.register(lambda: earlier, 60),
    ):
        await until(other, lambda: other.members("worker").get("worker-1") == earlier)
        async with other.register(lambda: later, 60):
            await until(one, lambda: one.members("worker").get("worker-1") == later)
        await until(one, lambda: one.members("worker").get("worker-1") == earlier)


async def test_a_worker_follows_only_itself(etcd_endpoint: str, etcd_prefix: str) -> None:
    folder = f"{etcd_prefix}/members/worker/worker-1/"
    async with (
        coordinator(etcd_endpoint, etcd_prefix) as other,
        coordinator(etcd_endpoint, etcd_prefix, worker="worker-1") as worker,
        other.register(lambda: member(member_id="worker-2"), 60),
        other.campaign("worker-2", uuid4()),
        worker.register(lambda: member(member_id="worker-1"), 60),
    ):
        await until(other, lambda: len(other.members("worker")) == 2 and first_of(other) is not None)
        await until(worker, lambda: worker.members("worker"))
        assert list(worker.members("worker")) == ["worker-1"]
        assert first_of(worker) is None
        (key,) = await keys_under(etcd_endpoint, folder)
        await delete(etcd_endpoint, key)
        await has_other_keys(etcd_endpoint, folder, [key])


async def test_a_deleted_member_registers_again(etcd_endpoint: str, etcd_prefix: str) -> None:
    async with coordinator(etcd_endpoint, etcd_prefix) as one, one.register(member, 60):
        await until(one, lambda: one.members("worker"))
        (key,) = await keys_under(etcd_endpoint, f"{etcd_prefix}/members/")
        await delete(etcd_endpoint, key)
        await has_other_keys(etcd_endpoint, f"{etcd_prefix}/members/", [key])
        await until(one, lambda: one.members("worker"))


async def test_a_key_that_is_no_member_is_left_out(etcd_endpoint: str, etcd_prefix: str) -> None:
    await put(etcd_endpoint, f"{etcd_prefix}/members/worker/junk", b'{"kind": "ghost"}')
    async with coordinator(etcd_endpoint, etcd_prefix) as one, one.register(member, 60):
        await until(one, lambda: one.members("worker"))
        assert list(one.members("worker")) == ["worker-1"]


async def test_members_register_again_after_a_wipe(private_etcd: EtcdServer) -> None:
    async with AsyncExitStack() as stack:
        many = [await stack.enter_async_context(coordinator(private_etcd.endpoint)) for _ in range(4)]
        for number, one in enumerate(many):
            shown = partial(member, member_id=f"worker-{number}", incarnation=uuid4())
            await stack.enter_async_context(one.register(shown, 60))
        for one in many:
            await until(one, partial(_sees_all, one))
        private_etcd.wipe()
        private_etcd.launch()
        private_etcd.await_ready()
        await has_keys(private_etcd.endpoint, "/taskd/members/", 4)
        for one in many:
            await until(one, partial(_sees_all, one))


def _sees_all(one: EtcdCoordinator) -> bool:
    return len(one.members("worker")) == 4 and one.health.ok


async def test_a_process_that_was_frozen_beyond_its_lease_registers_again(etcd_endpoint: str, etcd_prefix: str) -> None:
    async with coordinator(etcd_endpoint, etcd_prefix) as one, one.register(member, 60):
        await until(one, lambda: one.members("worker"))
        async with coordinator(etcd_endpoint, etcd_prefix) as other:
            await until(other, lambda: other.members("worker"))
            (before,) = await keys_under(etcd_endpoint, f"{etcd_prefix}/members/")
            time.sleep(TTL + 2)  # noqa: ASYNC251  the event loop itself is what has to stand still
            await has_other_keys(etcd_endpoint, f"{etcd_prefix}/members/", [before])
            await until(other, lambda: other.members("worker"))


async def test_refreshing_needs_a_positive_interval(etcd_endpoint: str, etcd_prefix: str) -> None:
    async with coordinator(etcd_endpoint, etcd_prefix) as one:
        with pytest.raises(ValueError, match="more than 0"):
            one.register(member, 0)


def test_nothing_can_be_asked_of_a_coordinator_that_does_not_run() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        coordinator("localhost:2379").campaign("one", uuid4())
