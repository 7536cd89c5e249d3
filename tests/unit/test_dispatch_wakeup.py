"""Who hears a ring: our own dispatchers, and those of others through Redis only if there are any."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from taskd.domain.errors import TransportUnavailable
from taskd.scheduler.dispatch_wakeup import DispatchWakeup


class Shard:
    """One that is ours, or not."""

    def __init__(self, *, ours: bool) -> None:
        self.term = "a term" if ours else None
        self.rings = 0

    def wake(self) -> None:
        self.rings += 1


class Redis:
    """Counts wakes; the first one waits for its gate."""

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


@pytest.mark.parametrize(("ours", "wakes"), [([True], 0), ([True, True], 0), ([False], 1), ([True, False, True], 1)])
async def test_redis_is_asked_only_if_a_shard_is_led_elsewhere(ours: list[bool], wakes: int) -> None:
    redis, shards = Redis(), [Shard(ours=each) for each in ours]
    redis.gate.set()
    DispatchWakeup(cast("Any", redis), cast("Any", shards))()
    await settled()
    assert [shard.rings for shard in shards] == [int(each) for each in ours]
    assert redis.wakes == wakes


async def test_rings_that_come_while_one_is_under_way_share_the_next() -> None:
    redis = Redis()
    wakeup = DispatchWakeup(cast("Any", redis), cast("Any", [Shard(ours=False)]))
    for _ in range(5):
        wakeup()
        await settled()
    assert redis.wakes == 1
    redis.gate.set()
    await settled()
    assert redis.wakes == 2


async def test_a_redis_that_is_away_is_nobodys_trouble() -> None:
    redis, shard = Redis(), Shard(ours=True)
    redis.away = True
    DispatchWakeup(cast("Any", redis), cast("Any", [shard, Shard(ours=False)]))()
    await settled()
    assert (redis.wakes, shard.rings) == (1, 1)
