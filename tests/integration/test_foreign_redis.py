"""Test foreign values in Redis: they are left out, counted and removed if possible, and disturb no other queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import redis as blocking

from taskd.domain.band import BANDS
from taskd.domain.explain.situation import EntryLocation
from taskd.domain.fencing import Delivery, Dispatch
from taskd.runtime import meters
from taskd.seams import LeaderView
from taskd.settings import RedisSettings
from taskd.transport.stream import RedisTransport
from tests.servers import SharedServers, wait_until_async

QUEUES = ("q1", "q2")

Spoil = Callable[[blocking.Redis, str], Any]
SPOILS: dict[str, Spoil] = {
    "string": lambda client, key: client.set(key, "x"),
    "list": lambda client, key: client.rpush(key, "x"),
    "hash": lambda client, key: client.hset(key, "x", "y"),
    "set": lambda client, key: client.sadd(key, "x"),
    "exhausted": lambda client, key: client.xadd(key, {"d": "x"}, id=f"{2**64 - 1}-{2**64 - 1}"),
}


@pytest.fixture
def raw(servers: SharedServers) -> Iterator[blocking.Redis]:
    with servers.redis.connect() as client:
        yield client


@pytest.fixture
async def transport(redis_url: str, stream_name: str) -> AsyncIterator[RedisTransport]:
    new_transport = RedisTransport(RedisSettings(url=redis_url, stream=stream_name), consumer="w1")
    yield new_transport
    await new_transport.close()


def discarded(kind: str) -> float:
    return float(meters.DISCARDED.labels("redis", kind)._value.get())


def ids(deliveries: list[Delivery]) -> list[int]:
    return sorted(delivery.job_id for delivery in deliveries)


UNREADABLE: list[dict[str | bytes, str | bytes]] = [
    {"d": "1:99999999999999999999999:1"},
    {"d": f"1:7:{2**31}"},
    {"d": "1:" + "9" * 5000 + ":1"},
    {"d": b"\xff"},
    {b"\xff": "1:7:1"},
    {"x": "1:7:1"},
    {"d": "x" * 100_000},
    {"d": "1:٣:1"},
]


@pytest.mark.parametrize("fields", UNREADABLE, ids=range(len(UNREADABLE)))
@pytest.mark.parametrize("block", [0.0, 1.0], ids=["at once", "waiting"])
async def test_a_malformed_entry_is_removed_and_hides_no_other(
    transport: RedisTransport, raw: blocking.Redis, stream_name: str, fields: Any, block: float
) -> None:
    key = f"{stream_name}:{{q1}}:0"
    await transport.fetch(QUEUES, 1, 0)
    before = discarded("stream entries that this version cannot read")
    fetching = asyncio.create_task(transport.fetch(QUEUES, 8, block))
    if block:
        await wait_until_async(lambda: raw.info("clients")["blocked_clients"] > 0)
    else:
        await fetching
    raw.xadd(key, fields)
    await transport.ring([Dispatch(5, 1, "q1", 0)])
    assert set(ids(await fetching)) <= {5}
    got = [*(await fetching), *(await transport.fetch(QUEUES, 8, 0))]
    assert ids(got) == [5]
    await transport.decided(got)
    assert raw.xlen(key) == 0
    assert raw.xpending(key, "workers")["pending"] == 0
    assert discarded("stream entries that this version cannot read") == before + 1


async def test_an_entry_with_further_fields_is_read_by_the_name_of_its_own(
    transport: RedisTransport, raw: blocking.Redis, stream_name: str
) -> None:
    await transport.fetch(QUEUES, 1, 0)
    raw.xadd(f"{stream_name}:{{q1}}:0", {"trace": "x", "d": "1:7:3"})
    dispatch = Dispatch(7, 3, "q1", 0)
    assert await transport.missing([dispatch]) == []
    assert await transport.locate(dispatch) == EntryLocation(ahead=0)
    (got,) = await transport.fetch(QUEUES, 8, 0)
    assert (got.job_id, got.seq) == (7, 3)
    await transport.leave(QUEUES)
    assert await transport.missing([dispatch]) == []


@pytest.mark.parametrize("beyond", ["99999999999999-0", f"{2**64 - 1}-{2**64 - 1}"])
async def test_a_group_that_was_set_beyond_its_stream_is_given_entries_again(
    transport: RedisTransport, raw: blocking.Redis, stream_name: str, beyond: str
) -> None:
    await transport.fetch(QUEUES, 1, 0)
    raw.xgroup_setid(f"{stream_name}:{{q1}}:0", "workers", beyond)
    first, second = Dispatch(5, 1, "q1", 0), Dispatch(5, 2, "q1", 0)
    await transport.ring([first])
    assert await transport.fetch(QUEUES, 8, 0) == []
    assert await transport.missing([first]) == [first]
    assert discarded("a group that stands beyond the end of its stream") > 0
    await transport.ring([second])
    assert await transport.missing([second]) == []
    assert [(got.job_id, got.seq) for got in await transport.fetch(QUEUES, 8, 0)] == [(5, 2)]


@pytest.mark.parametrize("band", [BANDS[0].low, BANDS[1].low, BANDS[-1].low])
@pytest.mark.parametrize("spoil", [spoil for name, spoil in SPOILS.items() if name != "exhausted"])
async def test_a_key_of_another_type_costs_its_own_queue_only(
    transport: RedisTransport, raw: blocking.Redis, stream_name: str, spoil: Spoil, band: int
) -> None:
    key = f"{stream_name}:{{q1}}:{band}"
    spoil(raw, key)
    before = discarded("a key that is no usable stream")
    theirs, ours = Dispatch(1, 1, "q1", band), Dispatch(2, 1, "q2", band)
    assert {queue for queue, _ in await transport.depths(QUEUES)} == {"q2"}
    await transport.ring([theirs, ours])
    assert await transport.missing([theirs, ours]) == [theirs]
    assert (await transport.locate(theirs)).gone
    got = await transport.fetch(QUEUES, 8, 0)
    assert ids(got) == [2]
    await transport.give_back(got)
    got = await transport.fetch(QUEUES, 8, 0)
    assert ids(await transport.adopt(QUEUES, 8, 0.0)) == [2]
    waiting = asyncio.create_task(transport.fetch(QUEUES, 8, 1.0))
    await wait_until_async(lambda: raw.info("clients")["blocked_clients"] > 0)
    await transport.ring([Dispatch(3, 1, "q2", band)])
    assert ids(await waiting) == [3]
    await transport.decided([*got, *(await waiting), Delivery(1, 1, key, "1-1")])
    await transport.leave(QUEUES)
    assert discarded("a key that is no usable stream") > before
    raw.delete(key)
    await transport.ring([theirs])
    assert ids(await transport.fetch(QUEUES, 8, 0)) == [1]


async def test_a_key_that_is_spoilt_under_a_waiting_worker_costs_its_own_queue_only(
    transport: RedisTransport, raw: blocking.Redis, stream_name: str
) -> None:
    await transport.fetch(QUEUES, 1, 0)
    waiting = asyncio.create_task(transport.fetch(QUEUES, 8, 1.0))
    await wait_until_async(lambda: raw.info("clients")["blocked_clients"] > 0)
    key = f"{stream_name}:{{q1}}:0"
    with raw.pipeline() as pipe:
        pipe.delete(key)
        pipe.set(key, "x")
        pipe.execute()
    await transport.ring([Dispatch(3, 1, "q2", 0)])
    assert ids([*(await waiting), *(await transport.fetch(QUEUES, 8, 0))]) == [3]


async def test_a_stream_without_a_next_id_costs_its_own_queue_only(
    transport: RedisTransport, raw: blocking.Redis, stream_name: str
) -> None:
    SPOILS["exhausted"](raw, f"{stream_name}:{{q1}}:0")
    await transport.ring([Dispatch(1, 1, "q1", 0), Dispatch(2, 1, "q2", 0)])
    assert ids(await transport.fetch(QUEUES, 8, 0)) == [2]


async def test_a_fetch_whose_queues_are_all_spoilt_waits(
    transport: RedisTransport, raw: blocking.Redis, stream_name: str
) -> None:
    for band in BANDS:
        raw.set(f"{stream_name}:{{q1}}:{band.low}", "x")
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await transport.fetch(["q1"], 8, 0.2) == []
    assert loop.time() - began >= 0.2


@pytest.mark.parametrize("spoil", [lambda c, k: c.set(k, b"\xff"), *SPOILS.values()])
async def test_an_incarnation_that_is_none_is_replaced(
    transport: RedisTransport, raw: blocking.Redis, stream_name: str, spoil: Spoil
) -> None:
    spoil(raw, f"{stream_name}:incarnation")
    name = await transport.incarnation()
    assert len(name) == 36
    assert await transport.incarnation() == name


VIEWS: list[Spoil] = [
    lambda c, k: c.set(k, b"\xff", px=4000),
    lambda c, k: c.set(k, "{", px=4000),
    lambda c, k: c.set(k, '{"epoch":"x","postgres":1}', px=4000),
    lambda c, k: c.set(k, f'{{"epoch":{2**70},"postgres":false}}', px=4000),
    lambda c, k: c.set(k, '{"epoch":1e300,"postgres":false}', px=4000),
    lambda c, k: c.set(k, "[" * 100_000, px=4000),
    lambda c, k: c.set(k, "[1]", px=4000),
    *SPOILS.values(),
]


@pytest.mark.parametrize("spoil", VIEWS, ids=range(len(VIEWS)))
async def test_a_view_that_is_none_is_left_out_and_replaced(
    transport: RedisTransport, raw: blocking.Redis, stream_name: str, spoil: Spoil
) -> None:
    spoil(raw, f"{stream_name}:leader")
    assert await transport.view() is None
    await transport.publish_view(LeaderView(3, postgres=True), 5.0)
    assert await transport.view() == LeaderView(3, postgres=True)


async def test_a_view_of_a_later_epoch_that_never_runs_out_is_not_taskds(
    transport: RedisTransport, raw: blocking.Redis, stream_name: str
) -> None:
    raw.set(f"{stream_name}:leader", f'{{"epoch":{2**62},"postgres":false}}')
    await transport.publish_view(LeaderView(3, postgres=True), 5.0)
    assert await transport.view() == LeaderView(3, postgres=True)


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
async def test_a_probe_that_is_something_else_is_overwritten(
    transport: RedisTransport, raw: blocking.Redis, stream_name: str, spoil: Spoil
) -> None:
    spoil(raw, f"{stream_name}:probe")
    await transport.ping()


async def test_messages_of_any_bytes_end_no_listener(
    transport: RedisTransport, raw: blocking.Redis, stream_name: str
) -> None:
    cancels, wakes = transport.cancellations(), transport.wakes()
    assert await anext(cancels) is None
    await anext(wakes)
    for message in (b"\xff", b"", b"9" * 5000, "٣".encode(), b"-1", f"{2**63}".encode(), b"1" * 2_000_000, b"5,\xff"):
        raw.publish(f"{stream_name}:cancel", message)
        raw.publish(f"{stream_name}:wake", message)
        await anext(wakes)
    assert await anext(cancels) == frozenset({5})
    await cancels.aclose()  # type: ignore[attr-defined]
    await wakes.aclose()  # type: ignore[attr-defined]


async def test_a_consumer_of_any_name_is_shown_as_text(
    transport: RedisTransport, raw: blocking.Redis, stream_name: str
) -> None:
    await transport.fetch(QUEUES, 1, 0)
    dispatch = Dispatch(7, 3, "q1", 0)
    await transport.ring([dispatch])
    anything: Any = raw
    anything.execute_command(
        "XREADGROUP", "GROUP", "workers", b"\xff\x1b[2J", "STREAMS", f"{stream_name}:{{q1}}:0", ">"
    )
    held = await transport.locate(dispatch)
    assert held.worker_id is not None
    assert held.worker_id.isascii()
    assert held.worker_id.isprintable()
    assert ids(await transport.adopt(QUEUES, 8, 0.0)) == [7]
