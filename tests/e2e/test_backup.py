"""Test that a new cluster needs only a backup of PostgreSQL, made under load; Redis and etcd begin empty."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from taskd.client import Client
from taskd.dev.servers.binaries import Binaries
from taskd.dev.servers.etcd import EtcdServer
from taskd.dev.servers.valkey import RedisServer
from tests.e2e.fleet import Fleet, batch
from tests.servers import SharedServers, wait_until


def test_a_dump_made_under_load_goes_on_with_empty_redis_and_etcd(
    make_fleet: Callable[..., Fleet],
    servers: SharedServers,
    server_binaries: Binaries,
    private_redis: RedisServer,
    private_etcd: EtcdServer,
    tmp_path: Path,
) -> None:
    fleet = make_fleet()
    scheduler = fleet.start_scheduler("before")
    fleet.start_worker("w", "--queues", "default,held")
    client = fleet.client(scheduler)
    done, long, waiting, held = _submit_load(fleet, client)
    keyed = client.submit({"task": "nap", "payload": {"seconds": 0}, "dedupe_key": "k"})["id"]
    before = client.job(done[0])

    dump = tmp_path / "dump"
    _run(server_binaries, "pg_dump", "--format=custom", f"--file={dump}", fleet.dsn)
    lost = batch(client, "nap", [{"seconds": 0}] * 3)
    for process in fleet.processes:
        process.kill()

    fleet.servers |= {"dsn": servers.empty_database(), "redis_url": private_redis.url, "stream": f"jobs-{uuid4().hex}"}
    fleet.servers["etcd_endpoint"] = private_etcd.endpoint
    try:
        _run(server_binaries, "pg_restore", "--no-owner", f"--dbname={fleet.dsn}", str(dump))
        client = fleet.client(fleet.start_scheduler("after"))
        fleet.start_worker("w2", "--queues", "default,held")
        fleet.wait_completed([*done, *long, *waiting, keyed])
        assert client.job(done[0]) == before
        assert {client.job(job)["attempt"] for job in long} == {2}
        assert fleet.statuses(held) == {"pending": 5}
        assert fleet.statuses(lost) == {}
        again = client.submit({"task": "nap", "payload": {"seconds": 0}, "dedupe_key": "k"})
        assert (again["id"], again["duplicate"]) == (keyed, True)
        client.unconfigure("queue.held.paused", "operator")
        fleet.wait_completed(held)
    finally:
        fleet.stop()
        servers.drop_database(fleet.dsn)


def _submit_load(fleet: Fleet, client: Client) -> tuple[list[int], list[int], list[int], list[int]]:
    """Return the ids of completed jobs, running ones, waiting ones, and those of a paused queue."""
    client.configure("queue.held.paused", True, "operator")
    done = batch(client, "nap", [{"seconds": 0}] * 20)
    fleet.wait_completed(done)
    long = batch(client, "nap", [{"seconds": 3}] * 8)
    wait_until(lambda: fleet.statuses(long) == {"running": 8})
    waiting = batch(client, "nap", [{"seconds": 0.1}] * 20)
    return done, long, waiting, batch(client, "nap", [{"seconds": 0}] * 5, queue="held")


def _run(binaries: Binaries, program: str, *arguments: str) -> None:
    subprocess.run([binaries.postgres / program, *arguments], check=True, timeout=60)
