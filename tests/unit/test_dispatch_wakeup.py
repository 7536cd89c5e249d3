"""Tests of wake-ups of dispatchers: those of this process directly, and those of others through Redis only if there are any."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from taskd.domain.errors import TransportUnavailable
from taskd.scheduler.dispatch_wakeup import DispatchWakeup


class FakeShard:
    """Shard that this scheduler leads, or does not."""

    def __init__(self, *, led: bool) -> None:
        self.term = "a term" if led else None
        self.wakes = 0

    def wake(self) -> None:
        self.wakes += 1


class FakeRedis:
    """Fake Redis that counts wake-ups. Each waits for the gate."""

    def __init__(self) -> None:
        self.wakes = 0
        self.gate = asyncio.Event()
        self.away = False

    async def wake(self) -> None:
        self.wakes += 1
        if self.away:
            raise TransportUnavailable("away")
        await self.gate.wait()


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize(("led", "wakes"), [([True], 0), ([True, True], 0), ([False], 1), ([True, False, True], 1)])
async def test_redis_is_asked_only_if_a_shard_is_led_elsewhere(led: list[bool], wakes: int) -> None:
    redis, shards = FakeRedis(), [FakeShard(led=each) for each in led]
    redis.gate.set()
    DispatchWakeup(cast("Any", redis), cast("Any", shards))()
    await settled()
    assert [shard.wakes for shard in shards] == [int(each) for each in led]
    assert redis.wakes == wakes


async def test_wakeups_that_come_while_one_is_under_way_share_the_next() -> None:
    redis = FakeRedis()
    wakeup = DispatchWakeup(cast("Any", redis), cast("Any", [FakeShard(led=False)]))
    for _ in range(5):
        wakeup()
        await settled()
    assert redis.wakes == 1
    redis.gate.set()
    await settled()
    assert redis.wakes == 2


async def test_a_redis_that_is_away_does_not_stop_wakeups_in_this_process() -> None:
    redis, shard = FakeRedis(), FakeShard(led=True)
    redis.away = True
    DispatchWakeup(cast("Any", redis), cast("Any", [shard, FakeShard(led=False)]))()
    await settled()
    assert (redis.wakes, shard.wakes) == (1, 1)
