"""PostgreSQL down, frozen, full, or with terminated and missing connections (scenarios 13 to 17)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import psycopg

from taskd.torture.history import History
from tests import web
from tests.chaos import disk, measure
from tests.chaos.run import Scenario
from tests.chaos.shape import SESSION_TTL, Shape
from tests.chaos.world import World

UNAVAILABLE = 503


def _stopped(world: World, seconds: float) -> None:
    """Kill the postmaster and its backends. Recovery replays the log, and no claim may be lost."""
    world.flow(2)
    _run_for(world, seconds + 8)
    with world.fault("SIGKILL", "postgres", "restart"):
        world.postgres.kill()
        _measure_responses(world, seconds)
        world.postgres.start()
    world.flow(8)


def _stopped_with_redis(world: World) -> None:
    """Kill both. Workers cannot learn that all of them are cut off, so they stop their tasks in time."""
    world.flow(2)
    jobs = _run_for(world, 40)
    with world.fault("SIGKILL", "postgres", "restart"), world.fault("SIGKILL", "redis", "restart"):
        world.redis.kill()
        world.postgres.kill()
        world.flow(2 * SESSION_TTL)
        world.redis.start()
        world.postgres.start()
    world.until(lambda: all(world.job(job).get("attempt", 0) > 1 for job in jobs), 60)
    for job in jobs:
        world.cancel(job)


def _one_worker_late(world: World) -> None:
    """Let one worker reach PostgreSQL some seconds later than the others; it has the time of a lease for that."""
    world.flow(3)
    link = world.link(world.random.choice(world.workers).name, "postgres")
    with world.fault("SIGKILL", "postgres", "restart"):
        world.postgres.kill()
        link.hole(up=True, down=True)
        world.flow(1.5 * SESSION_TTL)
        world.postgres.start()
    world.leader()
    world.flow(4)
    link.heal()
    world.until(lambda: all(m.ready for m in world.members.values()), 60)
    world.flow(SESSION_TTL)


def _run_for(world: World, seconds: float) -> list[int]:
    """Submit jobs that run for `seconds`, longer than a lease; return them when all run."""
    jobs = [world.submit("nap", {"seconds": seconds}) for _ in range(8)]
    world.until(lambda: all(world.job(job)["status"] == "running" for job in jobs))
    return jobs


def _frozen(world: World) -> None:
    world.flow(2)
    _run_for(world, 15 + 8)
    with world.standstill("postgres"):
        _measure_responses(world, 15)
    world.flow(8)


def _measure_responses(world: World, seconds: float) -> None:
    """Record the slowest 503 to a submit or a read during the outage, and the delay of the event loop."""
    end, slowest = time.monotonic() + seconds, 0.0
    with _event_loop_measured(world):
        while time.monotonic() < end:
            for scheduler in world.schedulers:
                for method, path, body in (("POST", "/jobs", {"payload": 1, "task": "give"}), ("GET", "/jobs/1", None)):
                    began = time.monotonic()
                    response = web.request(method, f"{scheduler.url}{path}", json=body, timeout=20)
                    slowest = max(slowest, time.monotonic() - began)
                    assert response.status_code == UNAVAILABLE, response.text
                    assert "retry-after" in response.headers
            world.flow(0.1)
    world.figures["503 within"] = max(world.figures.get("503 within", 0.0), slowest)


@contextmanager
def _event_loop_measured(world: World) -> Iterator[None]:
    """Send each scheduler a request that needs no server every 50 ms; its time is the delay of the event loop."""
    stop, waits = threading.Event(), list[float]()

    def watch(url: str) -> None:
        with httpx.Client(timeout=20) as client:
            while not stop.wait(0.05):
                began = time.monotonic()
                client.get(f"{url}/no-such-page")
                waits.append(time.monotonic() - began)

    watchers = [threading.Thread(target=watch, args=(s.url,), daemon=True) for s in world.schedulers]
    for watcher in watchers:
        watcher.start()
    try:
        yield
    finally:
        stop.set()
        for watcher in watchers:
            watcher.join(30)
        world.figures["loop p99"] = measure.percentile(waits, 99)


def _backends_terminated(world: World) -> None:
    """Terminate a random backend of taskd every 200 ms."""
    with psycopg.connect(world.postgres.dsn, autocommit=True) as admin, world.fault("terminate", "postgres"):
        end = time.monotonic() + 20
        while time.monotonic() < end:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'taskd:%'"
                " AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1"
            )
            world.flow(0.2)


def _connections_exhausted(world: World) -> None:
    """Take every connection with other clients; a process that lost its connection gets no new one for a while."""
    world.flow(3)
    with world.fault("max_connections", "postgres"), ExitStack() as connections:
        first = connections.enter_context(psycopg.connect(world.postgres.dsn, connect_timeout=2, autocommit=True))
        end = time.monotonic() + 12
        while time.monotonic() < end:
            try:
                connections.enter_context(psycopg.connect(world.postgres.dsn, connect_timeout=2))
            except psycopg.OperationalError:
                first.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name LIKE 'taskd:%' ORDER BY random() LIMIT 1"
                )
                world.flow(0.2)
    world.flow(8)


def _full(world: World) -> None:
    world.flow(3)
    assert world.disk is not None
    with world.fault("ENOSPC", "postgres"):
        try:
            world.disk.fill()
            world.until(lambda: _post(world).status_code == UNAVAILABLE, 30)
            world.flow(5)
        finally:
            world.disk.free()
        world.until(lambda: _up_again(world), 60)
    world.flow(8)


def _up_again(world: World) -> bool:
    """Restart PostgreSQL if it is down: it panics if its log has no space. Return True if it answers."""
    if world.postgres.child.pid is None:
        world.postgres.start()
    return world.postgres.probe() is None


def _post(world: World) -> httpx.Response:
    return world.request("POST", "/jobs", {"payload": 1, "task": "give"})


def _left_open(world: World) -> None:
    """Leave a transaction open, which keeps VACUUM from removing dead rows, for most of the load."""
    world.flow(10)
    world.figures["until"] = time.time()
    with psycopg.connect(world.postgres.dsn) as other_client:
        other_client.execute("SELECT pg_current_xact_id(), count(*) FROM taskd.jobs")
        world.flow(30)
    world.healed()


def _open_figures(history: History, world: World) -> dict[str, float]:
    until = world.figures.pop("until")
    before = measure.typical(measure.starts(history, history.meta.load_from + 2, until), 99)
    during = measure.typical(measure.starts(history, until + 10, until + 30), 99)
    return {"start p99 before": before, "start p99 during": during, "times": during / max(before, 0.02)}


def _figures(history: History, world: World) -> dict[str, float]:
    return {
        "resumed": measure.gap(history, world.healed_at, history.meta.load_until),
        "reaped": float(measure.reaped(history)),
        "cut short": float(measure.cut_short(history)),
        "gap": measure.gap(history, history.meta.load_from, history.meta.load_until),
    }


SCENARIOS = [
    Scenario(
        name="13a",
        title="PostgreSQL killed, down 10 s",
        body=lambda world: _stopped(world, 10),
        bounds={"503 within": 2.5, "resumed": 5, "reaped": 0, "cut short": 0},
        measures=_figures,
    ),
    Scenario(
        name="13b",
        title="PostgreSQL down for three leases",
        body=lambda world: _stopped(world, 3 * SESSION_TTL),
        bounds={"503 within": 2.5, "resumed": 5, "reaped": 0, "cut short": 0},
        measures=_figures,
    ),
    Scenario(
        name="13c",
        title="PostgreSQL and Redis gone for two leases",
        body=_stopped_with_redis,
        bounds={"resumed": 5},
        measures=_figures,
    ),
    Scenario(
        name="13d",
        title="PostgreSQL back, for one worker 4 s later",
        body=_one_worker_late,
        shape=Shape(proxied=True),
        bounds={"reaped": 0},
        measures=_figures,
    ),
    Scenario(
        name="14",
        title="PostgreSQL frozen 15 s",
        body=_frozen,
        bounds={"503 within": 3, "loop p99": 0.1, "resumed": 5, "reaped": 0, "cut short": 0},
        measures=_figures,
    ),
    Scenario(
        name="15a",
        title="a random backend terminated every 200 ms",
        body=_backends_terminated,
        bounds={"reaped": 0, "cut short": 0},
        measures=_figures,
    ),
    Scenario(
        name="15b",
        title="max_connections exhausted",
        body=_connections_exhausted,
        shape=Shape(postgres={"max_connections": "75"}),
        bounds={"reaped": 0, "resumed": 5, "cut short": 0},
        measures=_figures,
    ),
    Scenario(
        name="16",
        title="PostgreSQL's disk full",
        body=_full,
        shape=Shape(disk=400 * 1024 * 1024),
        missing=disk.available,
        bounds={"resumed": 5},
        measures=_figures,
    ),
    Scenario(
        name="17",
        title="a transaction left open",
        body=_left_open,
        shape=Shape(load=45),
        bounds={"times": 3},
        measures=_open_figures,
    ),
]
