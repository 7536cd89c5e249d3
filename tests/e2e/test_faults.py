"""Test faults under load: no accepted job is lost, runs twice at once or completes twice.

The fault catalogue (tests/chaos) has further faults and a stricter checker. `make test` runs a few of its rows, and
`taskd torture`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from taskd.dev.process import descendants
from taskd.dev.servers.postgres import PostgresServer
from taskd.dev.servers.valkey import RedisServer
from tests import web
from tests.e2e.fleet import Fleet, batch
from tests.e2e.load import Load
from tests.servers import wait_until

MORE = 150


def grow(load: Load, by: int = MORE) -> None:
    """Return when `by` more jobs were accepted."""
    goal = len(load.accepted) + by
    wait_until(lambda: len(load.accepted) >= goal, 40)


def test_a_leader_that_has_to_stop_hands_over(fleet: Fleet) -> None:
    schedulers = [fleet.start_scheduler(name) for name in ("s1", "s2")]
    fleet.start_worker("w1")
    first = fleet.leader(schedulers)
    with Load(fleet, schedulers) as load:
        grow(load)
        assert first.terminate() == 0
        fleet.leader([s for s in schedulers if s is not first])
        grow(load)
    load.check()


def test_a_frozen_leader_writes_nothing_after_it_was_replaced(fleet: Fleet) -> None:
    schedulers = [fleet.start_scheduler(name) for name in ("s1", "s2")]
    fleet.start_worker("w1")
    first = fleet.leader(schedulers)
    with Load(fleet, [s for s in schedulers if s is not first]) as load:
        grow(load)
        first.suspend()
        second = fleet.leader([s for s in schedulers if s is not first], 30)
        grow(load)
        first.resume()
        wait_until(lambda: not web.get(f"{first.url}/leader", timeout=10).json()["is_leader"])
        grow(load)
    load.check()
    assert web.get(f"{second.url}/leader").json()["is_leader"]


def test_a_worker_that_restarts_ends_its_predecessors_session_at_once(fleet: Fleet) -> None:
    scheduler = fleet.start_scheduler("s1")
    client = fleet.client(scheduler)
    victim = fleet.start_worker("w1")
    ids = batch(client, "nap", [{"seconds": 3}] * 4)
    wait_until(lambda: len(fleet.trace) == 4)
    victim.kill()
    fleet.start_worker("w1")
    wait_until(lambda: len(fleet.trace) == 8, 5.5)  # sooner than the lease of 6 s
    assert {client.job(i)["attempt"] for i in ids} == {2}
    fleet.wait_completed(ids)


def test_redis_dies_and_comes_back_empty_under_load(
    make_fleet: Callable[..., Fleet], private_redis: RedisServer
) -> None:
    fleet = make_fleet(redis_url=private_redis.url)
    scheduler = fleet.start_scheduler("s1")
    fleet.start_worker("w1")
    with Load(fleet, [scheduler]) as load:
        grow(load)
        private_redis.kill()
        grow(load)
        assert web.get(f"{scheduler.url}/health").json()["status"] == "degraded"
        private_redis.start()
    load.check()
    wait_until(lambda: web.get(f"{scheduler.url}/health").json()["status"] == "healthy")


def test_a_redis_without_memory_stops_dispatch_and_says_so_once(
    make_fleet: Callable[..., Fleet], private_redis: RedisServer
) -> None:
    fleet = make_fleet(redis_url=private_redis.url)
    scheduler = fleet.start_scheduler("s1")
    fleet.start_worker("w1")
    fleet.leader([scheduler])
    client = fleet.client(scheduler)
    with private_redis.connect() as redis:
        redis.config_set("maxmemory", 1)
        ids = batch(client, "nap", [{"seconds": 0}] * 20)
        wait_until(lambda: "Redis is away" in scheduler.output)
        (extra,) = batch(client, "nap", [{"seconds": 0}])  # another reason to dispatch, while Redis takes no entry
        for _ in range(20):
            assert web.get(f"{scheduler.url}/health").json()["status"] == "degraded"
        assert client.job(extra)["status"] == "pending"
        redis.config_set("maxmemory", 0)
    fleet.wait_completed([*ids, extra])
    assert scheduler.output.count("Redis is away") == 1


def test_postgresql_dies_under_load_and_no_accepted_job_is_lost(
    make_fleet: Callable[..., Fleet], private_postgres: PostgresServer
) -> None:
    fleet = make_fleet(dsn=private_postgres.dsn)
    scheduler = fleet.start_scheduler("s1")
    fleet.start_worker("w1")
    client = fleet.client(scheduler)
    (long,) = batch(client, "nap", [{"seconds": 4}])
    with Load(fleet, [scheduler]) as load:
        grow(load)
        private_postgres.kill()
        response = web.post(f"{scheduler.url}/jobs", json={"payload": 1}, timeout=10)
        assert response.status_code == 503
        assert response.elapsed.total_seconds() < 4
        assert "retry-after" in response.headers
        wait_until(lambda: web.get(f"{scheduler.url}/health").status_code == 503)
        wait_until(lambda: load.refusals[503] > 3)
        private_postgres.start()
        grow(load)
    load.check()
    assert client.job(long)["attempt"] == 1


def test_a_task_outlives_its_lease_while_postgresql_is_away_for_all_workers(
    make_fleet: Callable[..., Fleet], private_postgres: PostgresServer
) -> None:
    fleet = make_fleet(dsn=private_postgres.dsn)
    scheduler = fleet.start_scheduler("s1")
    worker = fleet.start_worker("w1")
    fleet.leader([scheduler])
    client = fleet.client(scheduler)
    (job,) = batch(client, "nap", [{"seconds": 15}])
    wait_until(lambda: len(fleet.trace) == 1)
    private_postgres.kill()  # for more than two leases of 6 s
    wait_until(lambda: len(fleet.trace) == 2, 40)
    private_postgres.start()
    done = client.wait(job, 30)
    assert (done["status"], done["attempt"]) == ("completed", 1)
    assert "stopping all tasks" not in worker.output


def test_a_hung_postgresql_is_answered_by_503_in_time(
    make_fleet: Callable[..., Fleet], private_postgres: PostgresServer
) -> None:
    fleet = make_fleet(dsn=private_postgres.dsn)
    scheduler = fleet.start_scheduler("s1")
    web.post(f"{scheduler.url}/jobs", json={"payload": 1}).raise_for_status()
    # Every backend leads its own session, so freezing the postmaster's group would not stop them.
    assert private_postgres.child.pid is not None
    frozen = [*descendants(private_postgres.child.pid), private_postgres.child.pid]
    signal_all(frozen, signal.SIGSTOP)
    try:
        for method, path in (("POST", "/jobs"), ("GET", "/jobs/1"), ("GET", "/jobs")):
            response = web.request(method, f"{scheduler.url}{path}", json={"payload": 1}, timeout=10)
            assert response.status_code == 503
            assert response.elapsed.total_seconds() < 5
    finally:
        signal_all(frozen, signal.SIGCONT)
    wait_until(lambda: web.post(f"{scheduler.url}/jobs", json={"payload": 1}, timeout=10).status_code == 201)


def signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        os.kill(pid, number)
