"""Test that a cluster works with foreign values in Redis and etcd, and that no process ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import grpc
import psycopg
import redis as blocking
from aetcd import rpc

from tests.e2e.fleet import Fleet, batch
from tests.servers import SharedServers, wait_until

ENTRIES: list[dict[str, str | bytes]] = [
    {"d": "1:99999999999999999999999:1"},
    {"d": f"1:1:{2**31}"},
    {"d": "1:" + "9" * 5000 + ":1"},
    {"d": b"\xff"},
    {"x": "1:1:1"},
]


def put(endpoint: str, key: bytes, value: bytes) -> None:
    with grpc.insecure_channel(endpoint) as channel:
        kv: Any = rpc.KVStub(channel)
        kv.Put(rpc.PutRequest(key=key, value=value), timeout=5)


def test_garbage_in_redis_ends_no_process_and_costs_no_other_queue(
    make_fleet: Callable[..., Fleet], servers: SharedServers, stream_name: str, postgres_dsn: str
) -> None:
    fleet = make_fleet()
    scheduler = fleet.start_scheduler("one")
    worker = fleet.start_worker("w", "--queues", "default,q1")
    client = fleet.client(scheduler)
    fleet.wait_completed(batch(client, "nap", [{"seconds": 0.01}] * 5))
    with servers.redis.connect() as raw:
        raw.delete(f"{stream_name}:{{q1}}:50")
        raw.set(f"{stream_name}:{{q1}}:50", "x")
        raw.set(f"{stream_name}:incarnation", b"\xff")
        raw.set(f"{stream_name}:leader", b"\xff")
        for entry in ENTRIES:
            _add(raw, f"{stream_name}:{{default}}:0", entry)
        for channel in ("wake", "cancel"):
            raw.publish(f"{stream_name}:{channel}", b"\xff")
        held = batch(client, "nap", [{"seconds": 0.01}], queue="q1", priority=50)
        fleet.wait_completed(batch(client, "nap", [{"seconds": 0.01}] * 50))
        assert fleet.statuses(held) == {"pending": 1}
        wait_until(
            lambda: raw.get(f"{stream_name}:incarnation") != b"\xff" and raw.xlen(f"{stream_name}:{{default}}:0") == 0
        )
        assert f"{stream_name}:{{q1}}:50" in scheduler.output + worker.output
        raw.delete(f"{stream_name}:{{q1}}:50")
    fleet.wait_completed(held)
    with psycopg.connect(postgres_dsn) as connection:
        rows = connection.execute(
            "SELECT count(*), max(attempt), max(crashes + losses) FROM taskd.finished_jobs"
        ).fetchone()
    assert rows == (56, 1, 0)
    assert scheduler.popen.poll() is None
    assert worker.popen.poll() is None


def _add(raw: blocking.Redis, key: str, entry: Any) -> None:
    raw.xadd(key, entry)


def test_garbage_in_etcd_is_left_out_of_every_answer(
    make_fleet: Callable[..., Fleet], etcd_endpoint: str, etcd_prefix: str
) -> None:
    fleet = make_fleet()
    scheduler = fleet.start_scheduler("one")
    fleet.start_worker("w")
    client = fleet.client(scheduler)
    member = {"kind": "worker", "id": "forged", "incarnation": str(uuid4()), "address": "", "host": "", "pid": 1}
    forged = [json.dumps({**member, "started_at": 1e300}), json.dumps({**member, "started_at": 1, "slots": 2**70})]
    for number, value in enumerate([*(text.encode() for text in forged), b"\xff", b"{"], start=1):
        for folder in ("members/worker/forged", "election", "live"):
            put(etcd_endpoint, f"{etcd_prefix}/{folder}/{number:016x}-1".encode(), value)
    put(etcd_endpoint, f"{etcd_prefix}/live/latest".encode(), b"\xff")
    put(etcd_endpoint, f"{etcd_prefix}/fence".encode(), b"\xff")
    put(etcd_endpoint, f"{etcd_prefix}/members/".encode() + b"\xff", b"\xff")
    wait_until(lambda: "no member of taskd's" in scheduler.output)
    assert [document["id"] for document in client.get("/workers")["workers"]] == ["w"]
    assert [document["id"] for document in client.get("/schedulers")["schedulers"]] == ["one"]
    assert client.get("/health")["status"] == "healthy"
    (job,) = batch(client, "nap", [{"seconds": 0.01}])
    fleet.wait_completed([job])
    assert client.get(f"/jobs/{job}/explain")
    assert scheduler.popen.poll() is None
