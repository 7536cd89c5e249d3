"""The truth away, hung, full, or pestered (scenarios 13 to 17)."""

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
#: A dispatch that takes longer than this is a gap; the load dispatches every few milliseconds.
CALM = 0.5


def _stopped(world: World, seconds: float) -> None:
    """The postmaster dies, its backends with it, and recovery replays the log. Nobody's claim may be lost by that."""
    world.flow(2)
    _run_for(world, seconds + 8)
    with world.fault("SIGKILL", "postgres", "restart"):
        world.postgres.kill()
        _watch_answers(world, seconds)
        world.postgres.start()
    world.flow(8)


def _gone_with_redis(world: World) -> None:
    """Nobody can tell the workers that all are cut off, so they stop their tasks in time; then everything comes back."""
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


def _late_worker(world: World) -> None:
    """One worker reaches PostgreSQL some seconds later than the rest, and has a whole lease's time for that."""
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
    """Jobs that run for so long, longer than a lease; returns when all of them do."""
    jobs = [world.submit("nap", {"seconds": seconds}) for _ in range(8)]
    world.until(lambda: all(world.job(job)["status"] == "running" for job in jobs))
    return jobs


def _hung(world: World) -> None:
    world.flow(2)
    _run_for(world, 15 + 8)
    with world.standstill("postgres"):
        _watch_answers(world, 15)
    world.flow(8)


def _watch_answers(world: World, seconds: float) -> None:
    """Ask for as long as PostgreSQL is away: how late a 503 to a submit or a read came, and how long the event loop kept us."""
    end, slowest = time.monotonic() + seconds, 0.0
    with _loop_watched(world):
        while time.monotonic() < end:
            for scheduler in world.schedulers:
                for method, path, body in (("POST", "/jobs", {"payload": 1, "task": "give"}), ("GET", "/jobs/1", None)):
                    began = time.monotonic()
                    answer = web.request(method, f"{scheduler.url}{path}", json=body, timeout=20)
                    slowest = max(slowest, time.monotonic() - began)
                    assert answer.status_code == UNAVAILABLE, answer.text
                    assert "retry-after" in answer.headers
            world.flow(0.1)
    world.figures["503 within"] = max(world.figures.get("503 within", 0.0), slowest)


@contextmanager
def _loop_watched(world: World) -> Iterator[None]:
    """Meanwhile ask each scheduler, every 50 ms, for what needs no server: it takes as long as the event loop lets it wait."""
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


def _pestered(world: World) -> None:
    """A random backend of taskd's is terminated every 200 ms."""
    with psycopg.connect(world.postgres.dsn, autocommit=True) as executioner, world.fault("terminate", "postgres"):
        end = time.monotonic() + 20
        while time.monotonic() < end:
            executioner.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'taskd:%'"
                " AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1"
            )
            world.flow(0.2)


def _crowded(world: World) -> None:
    """Strangers take every connection there is; a process that lost its own must do without for a while."""
    world.flow(3)
    with world.fault("max_connections", "postgres"), ExitStack() as strangers:
        first = strangers.enter_context(psycopg.connect(world.postgres.dsn, connect_timeout=2, autocommit=True))
        end = time.monotonic() + 12
        while time.monotonic() < end:
            try:
                strangers.enter_context(psycopg.connect(world.postgres.dsn, connect_timeout=2))
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
    """PostgreSQL panics if its log has no room, and stays down until somebody starts it."""
    if world.postgres.child.pid is None:
        world.postgres.start()
    return world.postgres.probe() is None


def _post(world: World) -> httpx.Response:
    return world.ask("POST", "/jobs", {"payload": 1, "task": "give"})


def _left_open(world: World) -> None:
    """Somebody's transaction stays open and holds back what VACUUM could clear, for all of the load."""
    world.flow(10)
    world.figures["until"] = time.time()
    with psycopg.connect(world.postgres.dsn) as stranger:
        stranger.execute("SELECT pg_current_xact_id(), count(*) FROM taskd.jobs")
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
        body=_gone_with_redis,
        bounds={"resumed": 5},
        measures=_figures,
    ),
    Scenario(
        name="13d",
        title="PostgreSQL back, for one worker 4 s later",
        body=_late_worker,
        shape=Shape(proxied=True),
        bounds={"reaped": 0},
        measures=_figures,
    ),
    Scenario(
        name="14",
        title="PostgreSQL frozen 15 s",
        body=_hung,
        bounds={"503 within": 3, "loop p99": 0.1, "resumed": 5, "reaped": 0, "cut short": 0},
        measures=_figures,
    ),
    Scenario(
        name="15a",
        title="a random backend terminated every 200 ms",
        body=_pestered,
        bounds={"reaped": 0, "cut short": 0},
        measures=_figures,
    ),
    Scenario(
        name="15b",
        title="max_connections exhausted",
        body=_crowded,
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
