"""Test foreign keys in etcd: they are left out and counted, and stop nothing."""

from __future__ import annotations

import json
from uuid import UUID, uuid4

import pytest
from aetcd import rpc

from taskd.coordination.client import EtcdClient
from taskd.coordination.endpoints import parse
from taskd.domain.config import Version
from taskd.domain.explain.situation import Holder
from taskd.runtime import meters
from tests.integration.etcd_world import coordinator, first_of, member, put, raw, until

GARBAGE = (b"\xff", b"", b"{", b"[" * 50_000, b"\x1b[2J", b"9" * 5000, b"x" * 1_000_000)


async def put_raw(endpoint: str, key: bytes, value: bytes) -> None:
    async with raw(endpoint) as kv:
        await kv.Put(rpc.PutRequest(key=key, value=value), timeout=5)


def discarded(kind: str) -> float:
    return float(meters.DISCARDED.labels("etcd", kind)._value.get())


async def test_members_of_any_content_are_left_out(etcd_endpoint: str, etcd_prefix: str) -> None:
    before = discarded("a key that is no member of taskd's")
    shown = {
        "kind": "worker",
        "id": "forged",
        "incarnation": str(uuid4()),
        "address": "",
        "host": "",
        "pid": 1,
        "started_at": 1e300,
    }
    bad = [*GARBAGE, json.dumps(shown).encode()]
    async with coordinator(etcd_endpoint, etcd_prefix) as one, one.register(member, 60):
        await until(one, lambda: one.members("worker"))
        for number, value in enumerate(bad, start=1):
            await put(etcd_endpoint, f"{etcd_prefix}/members/worker/forged/{number:016x}-1", value)
        await put_raw(etcd_endpoint, f"{etcd_prefix}/members/".encode() + b"\xff\xfe\x1b", b"\xff")
        await put_raw(etcd_endpoint, f"{etcd_prefix}/members/".encode() + b"\xff\xfd\x1b", b"\xff")
        await until(one, lambda: discarded("a key that is no member of taskd's") >= before + len(bad) + 2)
        assert list(one.members("worker")) == ["worker-1"]
    async with coordinator(etcd_endpoint, etcd_prefix) as later:  # lists the keys that the first one watched
        await until(
            later, lambda: later.health.ok and discarded("a key that is no member of taskd's") >= before + 2 * len(bad)
        )
        assert not later.members("worker")


async def test_candidacies_of_any_content_win_nothing(etcd_endpoint: str, etcd_prefix: str) -> None:
    for number, value in enumerate(GARBAGE, start=1):
        await put(etcd_endpoint, f"{etcd_prefix}/election/{number:016x}-1", value)
    forged = json.dumps({"instance_id": "forged", "holder": str(uuid4())}).encode()
    await put(etcd_endpoint, f"{etcd_prefix}/election/odd", forged)
    await put(
        etcd_endpoint, f"{etcd_prefix}/election/{99:016x}-1", forged
    )  # without the lease of its name, so that it would stay
    async with coordinator(etcd_endpoint, etcd_prefix) as one, one.campaign("one", UUID(int=1)) as candidacy:
        await until(one, lambda: candidacy.won)
        leader = first_of(one)
        assert leader is not None
        assert leader.instance_id == "one"


@pytest.mark.parametrize("value", [*GARBAGE, b'{"version":1e300}', b'{"version":9,"values":{"log.level":7}}'])
async def test_a_live_configuration_of_any_content_is_none(etcd_endpoint: str, etcd_prefix: str, value: bytes) -> None:
    await put(etcd_endpoint, f"{etcd_prefix}/live/latest", value)
    async with coordinator(etcd_endpoint, etcd_prefix) as one:
        await until(one, lambda: one.health.ok)
        assert one.configuration is None
        await one.publish(Version(version=1))
        await until(one, lambda: one.configuration == Version(version=1))


@pytest.mark.parametrize("value", [b"\xff", b"", b"x", b"-5", "٣".encode(), b"9" * 5000, b"9223372036854775807"])
async def test_fences_rise_over_a_start_that_is_none(etcd_endpoint: str, etcd_prefix: str, value: bytes) -> None:
    async with coordinator(etcd_endpoint, etcd_prefix) as one:
        async with one.lock("name") as first:
            pass
        await put(etcd_endpoint, f"{etcd_prefix}/fence", value)
        async with one.lock("name") as second:
            pass
        async with one.lock("name") as third:
            pass
    assert first.fence < second.fence < third.fence < 2**53


async def test_a_holder_of_any_content_is_one_of_whom_nothing_is_known(etcd_endpoint: str, etcd_prefix: str) -> None:
    async with coordinator(etcd_endpoint, etcd_prefix) as one:
        await until(one, lambda: one.health.ok)
        for number, value in enumerate([*GARBAGE, b'{"job_id":1e300}', b'{"pid":"x"}', b'{"worker_id":"\\u001b[2J"}']):
            await put(etcd_endpoint, f"{etcd_prefix}/locks/{number}/x", value)
            assert await one.holder(str(number)) == Holder()


async def test_a_lock_waits_for_a_key_of_any_name(etcd_endpoint: str, etcd_prefix: str) -> None:
    key = f"{etcd_prefix}/locks/name/".encode() + b"\xff"
    await put_raw(etcd_endpoint, key, b"\xff")
    client = EtcdClient(parse(etcd_endpoint))
    async with coordinator(etcd_endpoint, etcd_prefix) as one:
        with pytest.raises(TimeoutError):
            async with one.lock("name", wait=0.3):
                pass
        oldest = await client.oldest(f"{etcd_prefix}/locks/name/")
        assert oldest is not None
        await client.delete(oldest.key)
        async with one.lock("name", wait=10) as hold:
            assert hold.held
    await client.close()
