"""Test named locks on a real etcd."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from taskd.dev.servers.etcd import EtcdServer
from taskd.domain.errors import CoordinatorUnavailable
from tests.integration.etcd_world import TTL, coordinator, has_keys, keys_under, until


async def test_one_holds_at_a_time_and_fences_go_up(etcd_endpoint: str, etcd_prefix: str) -> None:
    inside = 0
    fences: list[int] = []

    async with AsyncExitStack() as stack:
        many = [await stack.enter_async_context(coordinator(etcd_endpoint, etcd_prefix)) for _ in range(3)]

        async def use(number: int) -> None:
            nonlocal inside
            async with many[number % 3].lock("printer") as hold:
                inside += 1
                assert inside == 1
                assert hold.held
                fences.append(hold.fence)
                await asyncio.sleep(0)
                inside -= 1
            assert not hold.held

        await asyncio.gather(*(use(number) for number in range(30)))
    assert len(fences) == 30
    assert fences == sorted(set(fences))
    assert await keys_under(etcd_endpoint, f"{etcd_prefix}/locks/") == []


async def test_locks_of_different_names_do_not_wait_for_each_other(etcd_endpoint: str, etcd_prefix: str) -> None:
    async with coordinator(etcd_endpoint, etcd_prefix) as one, one.lock("a"), one.lock("a/b", wait=5):
        assert len(await keys_under(etcd_endpoint, f"{etcd_prefix}/locks/")) == 2


async def test_waiting_ends_after_its_seconds_and_leaves_nothing(etcd_endpoint: str, etcd_prefix: str) -> None:
    async with coordinator(etcd_endpoint, etcd_prefix) as one, coordinator(etcd_endpoint, etcd_prefix) as other:
        async with one.lock("printer") as hold:
            with pytest.raises(TimeoutError):
                async with other.lock("printer", wait=0.3):
                    raise AssertionError
            assert hold.held
        async with other.lock("printer", wait=5):
            pass
        await has_keys(etcd_endpoint, f"{etcd_prefix}/locks/", 0)


async def test_a_cancelled_waiter_leaves_the_queue(etcd_endpoint: str, etcd_prefix: str) -> None:
    async with coordinator(etcd_endpoint, etcd_prefix) as one, coordinator(etcd_endpoint, etcd_prefix) as other:

        async def wait() -> None:
            async with other.lock("printer"):
                raise AssertionError

        async with one.lock("printer"):
            waiter = asyncio.create_task(wait())
            await has_keys(etcd_endpoint, f"{etcd_prefix}/locks/", 2)
            waiter.cancel()
            await has_keys(etcd_endpoint, f"{etcd_prefix}/locks/", 1)
        assert waiter.cancelled()


async def test_an_error_inside_gives_the_lock_back(etcd_endpoint: str, etcd_prefix: str) -> None:
    async with coordinator(etcd_endpoint, etcd_prefix) as one:
        with pytest.raises(ZeroDivisionError):
            async with one.lock("printer"):
                raise ZeroDivisionError
        async with one.lock("printer", wait=5):
            pass


async def test_a_lock_is_lost_when_etcd_is_frozen_beyond_the_lease(private_etcd: EtcdServer) -> None:
    async with coordinator(private_etcd.endpoint) as one, one.lock("printer") as hold:
        began = time.monotonic()
        private_etcd.suspend()
        await until(one, lambda: not hold.held)
        assert time.monotonic() - began < TTL + 0.5
        with pytest.raises(CoordinatorUnavailable):
            async with one.lock("other"):
                raise AssertionError
        private_etcd.resume()
        await until(one, lambda: one.health.ok)
        async with one.lock("printer", wait=10) as again:
            assert again.fence > hold.fence
            assert not hold.held


async def test_who_waits_hears_of_a_lost_session(private_etcd: EtcdServer) -> None:
    async with coordinator(private_etcd.endpoint) as one, coordinator(private_etcd.endpoint, ttl=60) as other:

        async def wait() -> None:
            async with one.lock("printer"):
                raise AssertionError

        async with other.lock("printer"):
            waiter = asyncio.create_task(wait())
            await has_keys(private_etcd.endpoint, "/taskd/locks/", 2)
            private_etcd.suspend()
            with pytest.raises(CoordinatorUnavailable):
                await asyncio.wait_for(waiter, 10)
            private_etcd.resume()


async def test_fences_go_up_over_a_wipe(private_etcd: EtcdServer) -> None:
    async with coordinator(private_etcd.endpoint) as one:
        for _ in range(5):
            async with one.lock("printer") as before:
                pass
        private_etcd.wipe()
        private_etcd.launch()
        private_etcd.await_ready()
        async with coordinator(private_etcd.endpoint) as other, other.lock("printer", wait=10) as after:
            assert after.fence > before.fence


async def test_a_lock_without_etcd_says_so_soon() -> None:
    began = time.monotonic()
    async with coordinator("127.0.0.1:9") as one:
        with pytest.raises(CoordinatorUnavailable, match="cannot be reached"):
            async with one.lock("printer"):
                raise AssertionError
    assert time.monotonic() - began < 4


async def test_a_lock_needs_a_name(etcd_endpoint: str, etcd_prefix: str) -> None:
    async with coordinator(etcd_endpoint, etcd_prefix) as one:
        with pytest.raises(ValueError, match="name"):
            async with one.lock(""):
                raise AssertionError
