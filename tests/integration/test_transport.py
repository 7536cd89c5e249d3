"""Test the transport: deliveries, their order, and recovery when Redis loses its data."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import redis
import uvloop

from taskd.dev.servers.valkey import RedisServer
from taskd.domain.band import BANDS
from taskd.domain.errors import ConfigurationError, TransportUnavailable
from taskd.domain.fencing import Delivery, Dispatch
from taskd.seams import LeaderView
from taskd.settings import RedisSettings
from taskd.transport.stream import RedisTransport
from tests.servers import wait_until_async

Connect = Callable[..., RedisTransport]
QUEUES = ("default",)


@pytest.fixture
async def connect(redis_url: str, stream_name: str) -> AsyncIterator[Connect]:
    transports: list[RedisTransport] = []

    def make(consumer: str = "", url: str = redis_url) -> RedisTransport:
        transports.append(transport := RedisTransport(RedisSettings(url=url, stream=stream_name), consumer=consumer))
        return transport

    yield make
    for transport in transports:
        await transport.close()


def dispatches(*priorities: int, queue: str = "default") -> list[Dispatch]:
    return [Dispatch(n, 1, queue, priority) for n, priority in enumerate(priorities, start=1)]


def ids(deliveries: list[Delivery]) -> list[int]:
    return [d.job_id for d in deliveries]


async def depth(transport: RedisTransport) -> int:
    return sum((await transport.depths(QUEUES)).values())


async def test_urgent_bands_come_first_and_order_holds_within_a_band(connect: Connect) -> None:
    leader, worker = connect(), connect("w1")
    await leader.ring(dispatches(0, 80, 30, 0, 99, 60))
    assert ids(await worker.fetch(QUEUES, 4, 0)) == [2, 5, 6, 3]
    assert ids(await worker.fetch(QUEUES, 9, 0)) == [1, 4]


async def test_a_worker_never_gets_more_than_its_slots_however_many_bands_ring_at_once(connect: Connect) -> None:
    leader, worker, other = connect(), connect("w1"), connect("w2")
    await worker.fetch(QUEUES, 1, 0)
    waiting = asyncio.create_task(worker.fetch(QUEUES, 1, 1.0))
    await wait_until_async(lambda: _blocked(leader))
    await leader.ring(dispatches(0, 30, 60, 90))
    got = ids(await waiting)
    assert len(got) == 1
    assert sorted(got + ids(await other.fetch(QUEUES, 9, 0))) == [1, 2, 3, 4]


async def _blocked(transport: RedisTransport) -> bool:
    info = await transport._client.info("clients")
    return int(info["blocked_clients"]) > 0


async def test_a_waiting_worker_is_woken(connect: Connect) -> None:
    leader, worker = connect(), connect("w1")
    waiting = asyncio.create_task(worker.fetch(QUEUES, 8, 1.0))
    await leader.ring(dispatches(0, 0, 0))
    assert ids(await waiting) == [1, 2, 3]


async def test_two_workers_never_get_the_same_entry(connect: Connect) -> None:
    leader, one, two = connect(), connect("w1"), connect("w2")
    await leader.ring(dispatches(*[0] * 300))
    halves = await asyncio.gather(one.fetch(QUEUES, 200, 0), two.fetch(QUEUES, 200, 0))
    assert sorted(ids(halves[0]) + ids(halves[1])) == list(range(1, 301))


async def test_a_decided_entry_is_gone_and_a_returned_one_goes_to_another_worker(connect: Connect) -> None:
    leader, one, two = connect(), connect("w1"), connect("w2")
    await leader.ring(dispatches(0, 0))
    first, second = await one.fetch(QUEUES, 8, 0)
    await one.decided([first])
    assert await depth(leader) == 1
    await one.give_back([second])
    (again,) = await two.fetch(QUEUES, 8, 0)
    assert (again.job_id, again.seq) == (second.job_id, second.seq)
    await two.decided([again])
    assert await depth(leader) == 0


async def test_what_a_dead_worker_left_undecided_is_adopted(connect: Connect) -> None:
    leader, dead, heir = connect(), connect("w1"), connect("w2")
    await leader.ring(dispatches(0, 90))
    await dead.fetch(QUEUES, 8, 0)
    assert await heir.adopt(QUEUES, 8, 60.0) == []
    assert ids(await heir.adopt(QUEUES, 8, 0.0)) == [2, 1]


async def test_what_a_worker_holds_on_to_is_not_adopted(connect: Connect) -> None:
    leader, holder, heir = connect(), connect("w1"), connect("w2")
    await leader.ring(dispatches(0, 0))
    first, second = await holder.fetch(QUEUES, 8, 0)

    async def idle() -> bool:
        pending = await leader._client.xpending_range(first.stream, "workers", "-", "+", 10)
        return all(int(entry["time_since_delivered"]) > 300 for entry in pending)

    await wait_until_async(idle)
    await holder.hold([first])
    assert ids(await heir.adopt(QUEUES, 8, 0.3)) == [second.job_id]
    await holder.decided([first])
    await holder.hold([first])  # a missing entry is no error
    await leader._client.delete(second.stream)
    await holder.hold([second])  # nor is a missing stream


async def test_a_worker_that_never_comes_back_is_forgotten_once_it_holds_nothing(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader, gone, holding, later = connect(), connect("w1"), connect("w2"), connect("w3")
    await leader.ring(dispatches(0, 0))
    await gone.decided(await gone.fetch(QUEUES, 1, 0))
    (held,) = await holding.fetch(QUEUES, 1, 0)
    monkeypatch.setattr("taskd.transport.stream.SILENCE", 0.05)

    async def consumers() -> dict[str, int]:
        rows = await leader._client.xinfo_consumers(held.stream, "workers")
        return {consumer["name"]: consumer["idle"] for consumer in rows}

    async def silent() -> bool:
        return min((await consumers()).values()) > 50

    await wait_until_async(silent)
    assert await later.adopt(QUEUES, 1, 60.0) == []
    assert (await consumers()).keys() == {"w2", "w3"}
    assert ids(await later.adopt(QUEUES, 1, 0.0)) == [held.job_id]


async def test_a_worker_that_leaves_gives_back_what_it_holds(connect: Connect) -> None:
    leader, leaving, other = connect(), connect("w1"), connect("w2")
    await leader.ring(dispatches(0, 50))
    await leaving.fetch(QUEUES, 8, 0)
    await leaving.leave(QUEUES)
    assert ids(await other.fetch(QUEUES, 8, 0)) == [2, 1]


async def test_missing_names_what_no_worker_will_be_given(connect: Connect) -> None:
    leader, worker = connect(), connect("w1")
    sent = dispatches(0, 0, 0)
    await leader.ring(sent)
    (held,) = await worker.fetch(QUEUES, 1, 0)
    absent = Dispatch(77, 4, "default", 0)
    late = Dispatch(sent[1].job_id, 2, "default", 0)
    assert await leader.missing([*sent, absent, late]) == [absent, late]
    # After the deletion of its consumer, an entry is neither waiting nor held, so no worker would get it.
    await leader._client.xgroup_delconsumer(held.stream, "workers", "w1")
    assert await leader.missing(sent) == [sent[0]]
    assert await depth(leader) == 2


async def test_a_wiped_memory_has_another_name_and_groups_come_back(
    connect: Connect, private_redis: RedisServer
) -> None:
    leader, worker = connect(url=private_redis.url), connect("w1", url=private_redis.url)
    first = await leader.incarnation()
    assert await worker.incarnation() == first
    await worker.fetch(QUEUES, 1, 0)
    private_redis.flush()
    second = await leader.incarnation()
    assert second != first
    assert await worker.incarnation() == await leader.incarnation() == second
    await leader.ring(dispatches(0))
    assert ids(await worker.fetch(QUEUES, 8, 1.0)) == [1]


async def test_a_reader_that_waits_survives_a_wipe(connect: Connect, private_redis: RedisServer) -> None:
    leader, worker = connect(url=private_redis.url), connect("w1", url=private_redis.url)
    await worker.fetch(QUEUES, 1, 0)
    waiting = asyncio.create_task(worker.fetch(QUEUES, 8, 1.0))
    await wait_until_async(lambda: _blocked(leader))
    private_redis.flush()
    await leader.ring(dispatches(0))
    job_ids = ids(await waiting) or ids(await worker.fetch(QUEUES, 8, 1.0))
    assert job_ids == [1]


async def test_an_entry_of_another_version_is_discarded(connect: Connect, stream_name: str) -> None:
    leader, worker = connect(), connect("w1")
    await leader._client.xadd(f"{stream_name}:{{default}}:0", {"d": "9:1:1"})
    await leader.ring(dispatches(0))
    assert ids(await worker.fetch(QUEUES, 8, 0)) == [1]
    await worker.decided([])
    assert await depth(leader) == 1


async def test_a_later_leaders_view_is_not_overwritten(connect: Connect) -> None:
    old, new = connect(), connect()
    await new.publish_view(LeaderView(7, postgres=True), 60.0)
    await old.publish_view(LeaderView(6, postgres=False), 60.0)
    assert await old.view() == LeaderView(7, postgres=True)
    await new.publish_view(LeaderView(7, postgres=False), 60.0)
    assert await old.view() == LeaderView(7, postgres=False)


async def test_a_wake_reaches_each_listener(connect: Connect) -> None:
    leader, other = connect(), connect()
    wakes = leader.wakes()
    await anext(wakes)
    heard = asyncio.ensure_future(anext(wakes))
    await other.wake()
    async with asyncio.timeout(10):
        await heard
    await wakes.aclose()  # type: ignore[attr-defined]  # the seam promises an iterator; here it is a generator


async def test_news_of_a_cancel_reaches_each_listener(connect: Connect) -> None:
    worker, other = connect(), connect()
    news = worker.cancellations()
    assert await anext(news) is None  # some may have been missed before
    heard = asyncio.ensure_future(anext(news))
    await other.wake()
    await other.tell_cancelled([17, 18])
    async with asyncio.timeout(10):
        assert await heard == frozenset({17, 18})
    await news.aclose()  # type: ignore[attr-defined]  # the seam promises an iterator; here it is a generator


async def test_a_listener_for_cancels_learns_that_some_may_have_been_missed(
    connect: Connect, private_redis: RedisServer
) -> None:
    news = connect(url=private_redis.url).cancellations()
    await anext(news)
    again = asyncio.ensure_future(anext(news))
    private_redis.kill()
    private_redis.start()
    async with asyncio.timeout(20):
        assert await again is None
    await news.aclose()  # type: ignore[attr-defined]  # as above


async def test_a_redis_that_is_away_is_one_error_in_time(connect: Connect, private_redis: RedisServer) -> None:
    transport = connect(url=private_redis.url)
    await transport.ping()
    private_redis.kill()
    with pytest.raises(TransportUnavailable):
        await transport.ping()
    with pytest.raises(TransportUnavailable):
        await transport.fetch(QUEUES, 1, 1.0)


async def test_a_redis_that_takes_no_writes_counts_as_away(connect: Connect, private_redis: RedisServer) -> None:
    """Test it, since otherwise the leader would offer every job again each second."""
    transport = connect(url=private_redis.url)
    name = await transport.incarnation()
    with redis.Redis.from_url(private_redis.url) as client:
        client.config_set("maxmemory", "1")
        with pytest.raises(TransportUnavailable, match="out of memory"):
            await transport.incarnation()
        client.config_set("maxmemory", "0")
        assert await transport.incarnation() == name
        client.replicaof("127.0.0.1", 1)
        with pytest.raises(TransportUnavailable):
            await transport.incarnation()


async def test_a_cancelled_command_stays_cancelled(connect: Connect) -> None:
    """Test a cancellation right after a send, which the library forgets: the duty would continue for ever."""
    transport = connect()

    async def duty() -> None:
        while True:
            await transport.incarnation()
            await asyncio.sleep(0)

    for turns in range(300):
        task = asyncio.create_task(duty())
        for _ in range(turns % 40):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=5)
        assert done, turns


async def test_a_listener_that_is_cancelled_ends(connect: Connect) -> None:
    """Test the same during a subscribe: it would wait for messages until the end of its process."""
    transport = connect()

    async def listen() -> None:
        async for _ in transport.cancellations():
            pass

    for turns in range(300):
        task = asyncio.create_task(listen())
        for _ in range(turns % 60):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=5)
        assert done, turns


@pytest.mark.parametrize("url", ["http://x", "redis://h:port"])
async def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="REDIS_URL"):
        RedisTransport(RedisSettings(url=url))


def test_there_are_few_bands() -> None:
    assert len(BANDS) <= 5


def test_a_connection_that_was_reset_is_an_outage_and_no_bug(redis_url: str, stream_name: str) -> None:
    """Test the RuntimeError of uvloop, which the library does not handle."""

    async def main() -> None:
        transport = RedisTransport(RedisSettings(url=redis_url, stream=stream_name))
        await transport.ping()
        connection = transport._client.connection_pool._available_connections[0]
        assert connection._writer is not None
        connection._writer.transport.abort()
        with pytest.raises(TransportUnavailable):
            await transport.ping()
        await transport.ping()
        await transport.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


async def test_more_entries_than_one_command_takes_are_decided_at_once(connect: Connect) -> None:
    leader, worker = connect(), connect("w1")
    await leader.ring(dispatches(*[0] * 2500, *[90] * 3))
    delivered = await worker.fetch(QUEUES, 3000, 0)
    assert len(delivered) == 2503
    await worker.decided(delivered[:-1])
    assert await depth(leader) == 1
    await worker.decided(delivered[-1:])
    assert await depth(leader) == 0
