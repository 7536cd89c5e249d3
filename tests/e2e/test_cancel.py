"""Test cancelling through the installed executable: waiting jobs never run, running ones are stopped soon."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psycopg
from redis import Redis

from taskd.dev.servers.valkey import RedisServer
from tests import web
from tests.e2e.fleet import Fleet, Process
from tests.servers import SharedServers, wait_until

#: Settings of a worker whose heartbeat would find a cancelled job only after the tests' time-outs.
SLOW = {"TASKD_WORKER__HEARTBEAT": "40", "TASKD_WORKER__SESSION_TTL": "120"}


def marks(fleet: Fleet, job_id: int) -> list[str]:
    """Return the marks of a job's attempts."""
    return [what for job, _, what, _ in fleet.trace if int(job) == job_id]


def figures(worker: Process) -> dict[str, Any]:
    """Return the worker's metrics."""
    document: dict[str, Any] = web.get(f"{worker.url}/metrics").json()
    return document


def attempt_lines(worker: Process, job_id: int) -> list[str]:
    """Return the log lines about the ends of a job's attempts."""
    return [line for line in worker.output.splitlines() if "attempt ended" in line and f"job={job_id} " in line]


def test_a_running_job_is_stopped_without_waiting_for_a_heartbeat(fleet: Fleet) -> None:
    scheduler = fleet.start_scheduler("s1")
    worker = fleet.start_worker("w1", **SLOW)
    client = fleet.client(scheduler)
    job_id = client.submit({"task": "linger", "payload": {"seconds": 600}})["id"]
    wait_until(lambda: marks(fleet, job_id) == ["start"])
    job = client.cancel(job_id)
    assert (job["status"], job["worker_id"], [a["outcome"] for a in job["attempts"]]) == (
        "cancelled",
        "w1",
        ["cancelled"],
    )
    wait_until(lambda: marks(fleet, job_id) == ["start", "stopped"], 10)
    wait_until(lambda: figures(worker)["cancelled"] == 1)
    counts = figures(worker)
    assert (counts["fenced"], counts["released"], counts["running"]) == (0, 0, 0)
    (line,) = attempt_lines(worker, job_id)
    assert "outcome=cancelled" in line
    assert "warning" not in line
    assert {**client.job(job_id), "timeline": None} == {**job, "timeline": None}


def test_a_task_that_does_not_listen_is_killed_and_its_slot_is_free_again(fleet: Fleet) -> None:
    scheduler = fleet.start_scheduler("s1")
    worker = fleet.start_worker("w1", "--concurrency", "1", "--processes", "1", **SLOW)
    client = fleet.client(scheduler)
    deaf = client.submit({"task": "block", "payload": {"seconds": 600}})["id"]
    wait_until(lambda: marks(fleet, deaf) == ["start"])
    client.cancel(deaf)
    following = client.submit({"task": "nap", "payload": {"seconds": 0}})["id"]
    assert client.wait(following, 20)["status"] == "completed"
    assert client.job(deaf)["status"] == "cancelled"
    assert marks(fleet, deaf) == ["start"]
    wait_until(lambda: figures(worker)["cancelled"] == 1)


def test_without_redis_the_heartbeat_finds_what_was_cancelled(
    make_fleet: Callable[..., Fleet], private_redis: RedisServer
) -> None:
    fleet = make_fleet(redis_url=private_redis.url)
    scheduler = fleet.start_scheduler("s1")
    fleet.start_worker("w1")
    client = fleet.client(scheduler)
    job_id = client.submit({"task": "linger", "payload": {"seconds": 600}})["id"]
    wait_until(lambda: marks(fleet, job_id) == ["start"])
    private_redis.kill()
    assert client.cancel(job_id)["status"] == "cancelled"
    wait_until(lambda: marks(fleet, job_id) == ["start", "stopped"], 10)


def test_a_pending_job_is_cancelled_and_never_runs(fleet: Fleet) -> None:
    scheduler = fleet.start_scheduler("s1")
    client = fleet.client(scheduler)
    unwanted, wanted = (client.submit({"task": "nap", "payload": {"seconds": 0}})["id"] for _ in range(2))
    job = client.cancel(unwanted)
    assert (job["status"], job["attempt"], job["attempts"]) == ("cancelled", 0, [])
    fleet.start_worker("w1")
    fleet.wait_completed([wanted])
    assert marks(fleet, unwanted) == []
    late = web.post(f"{scheduler.url}/jobs/{wanted}/cancel")
    assert (late.status_code, late.json()["job_status"]) == (409, "completed")


def test_a_queued_job_is_cancelled_never_runs_and_leaves_nothing_in_redis(fleet: Fleet, servers: SharedServers) -> None:
    scheduler = fleet.start_scheduler("s1")
    worker = fleet.start_worker("w1", **SLOW)
    client = fleet.client(scheduler)
    worker.suspend()
    ids = [client.submit({"task": "nap", "payload": {"seconds": 0}})["id"] for _ in range(3)]
    wait_until(lambda: fleet.statuses(ids) == {"queued": 3})
    assert client.cancel(ids[1])["status"] == "cancelled"
    worker.resume()
    fleet.wait_completed([ids[0], ids[2]])
    stream = f"{fleet.servers['stream']}:{{default}}:0"
    with Redis.from_url(servers.redis.url, decode_responses=True) as redis:
        wait_until(lambda: redis.xlen(stream) == 0)
        assert redis.xpending(stream, "workers")["pending"] == 0
    assert marks(fleet, ids[1]) == []
    with psycopg.connect(fleet.dsn) as connection:
        assert connection.execute("SELECT count(*) FROM taskd.jobs").fetchone() == (0,)


def test_a_waiter_for_a_job_hears_that_it_was_cancelled(fleet: Fleet) -> None:
    scheduler = fleet.start_scheduler("s1")
    fleet.start_worker("w1")
    job_id = fleet.client(scheduler).submit({"task": "linger", "payload": {"seconds": 600}})["id"]
    documents: list[Any] = []
    waiter = threading.Thread(
        target=lambda: documents.append(web.get(f"{scheduler.url}/jobs/{job_id}?wait=50", timeout=60).json())
    )
    waiter.start()
    wait_until(lambda: marks(fleet, job_id) == ["start"])
    cancelled = fleet.client(scheduler).cancel(job_id)
    waiter.join(20)
    assert [{**document, "timeline": None} for document in documents] == [{**cancelled, "timeline": None}]
