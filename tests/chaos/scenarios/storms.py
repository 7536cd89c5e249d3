"""Much at once: bad input, slow clients, one key, one instant, failures all over (scenarios 26, 27, 29 to 31)."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import httpx
import psycopg

from taskd.client import Client
from taskd.torture.history import History
from taskd.torture.workload import Workload
from tests.chaos import measure
from tests.chaos.run import Scenario, redis_left
from tests.chaos.shape import Shape
from tests.chaos.world import World

#: Below this an answer's time is the machine's mood: ratios are taken of at least so much.
FLOOR = 0.02
#: Seconds that no answer may take in a storm, whatever the disk does.
SLOWEST = 3
MASS = 100_000
#: What an HTTP body may be, by default.
LIMIT = 1024 * 1024
JSON = {"Content-Type": "application/json"}


def _bad_input(world: World) -> None:
    deep = b'{"payload": ' + b"[" * 10_000 + b"]" * 10_000 + b"}"
    bodies: list[tuple[bytes, dict[str, str]]] = [
        (b'{"payload": "' + b"x" * (LIMIT + 1) + b'"}', JSON),
        (b'{"payload": ', JSON),
        (b"", JSON),
        (b"\xff\xfe", JSON),
        (b'{"payload": 1, "priority": 1e400}', JSON),
        (b'{"payload": "\\u0000"}', JSON),
        (b'{"payload": "\\ud800"}', JSON),
        (b'{"payload": 1, "schedule_at": "2026-01-01T00:00:00"}', JSON),
        (b'{"payload": 1, "unknown": 1}', JSON),
        (b'{"payload": NaN}', JSON),
        (b'{"payload": 1}', {"Content-Type": "text/plain"}),
        (deep, JSON),
    ]
    statuses: Counter[int] = Counter()
    url = world.leader().url
    with httpx.Client(timeout=10) as client:
        for _ in range(5):
            for body, headers in bodies:
                for path in ("/jobs", "/jobs/batch"):
                    answer = client.post(f"{url}{path}", content=body, headers=headers)
                    statuses[answer.status_code] += 1
    world.figures["refused"] = float(sum(n for status, n in statuses.items() if 400 <= status < 500))
    world.figures["5xx"] = float(sum(n for status, n in statuses.items() if status >= 500))
    world.figures["accepted nonsense"] = float(sum(n for status, n in statuses.items() if status < 400))


def _slow_clients(world: World, *, files: int | None) -> None:
    world.flow(10)
    scheduler = world.leader()
    if files is not None:
        resource.prlimit(scheduler.pid, resource.RLIMIT_NOFILE, (files, files))
    begin = time.time()
    with world.fault("slow clients", scheduler.name), _dripping(scheduler.port, 500) as clients:
        there = time.time()
        world.flow(10)
        world.figures["clients"] = float(clients)
        assert files is not None or clients > 450
    if files is not None:
        began = time.monotonic()
        world.until(lambda: scheduler.ready, 30)
        world.figures["recovered"] = time.monotonic() - began
    assert world.traffic is not None
    latencies = list(world.traffic.latencies)
    _compare(world, latencies, begin, (there, there + 10))


def _compare(world: World, latencies: list[tuple[float, int, float]], begin: float, storm: tuple[float, float]) -> None:
    """Compare the slow answers of every moment, and see to it that none took very long: in the storm, those that never came
    count with the time that was waited."""
    before = [(at, s) for at, status, s in latencies if at < begin and status in (200, 201)]
    during = [(at, s) for at, _, s in latencies if storm[0] < at < storm[1]]
    assert before, "nothing was answered before the storm"
    calm, busy = measure.typical(before, 99), measure.typical(during, 99)
    world.figures |= {"submit p99 before": calm, "submit p99 during": busy, "times": busy / max(calm, FLOOR)}
    world.figures["slowest"] = max(s for _, s in during)


@contextmanager
def _dripping(port: int, clients: int) -> Iterator[int]:
    """So many clients that send a byte of a request now and then and never finish; how many got in."""
    command = [sys.executable, "-m", "tests.chaos.drip", str(port), str(clients)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as dripping:
        assert dripping.stdin is not None
        assert dripping.stdout is not None
        try:
            yield int(dripping.stdout.readline())
        finally:
            dripping.stdin.close()
            dripping.wait(30)


def _one_key(world: World) -> None:
    async def submit_all() -> list[int]:
        async with httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_connections=200)) as client:
            body = {"payload": {"seconds": 0.01}, "task": "nap", "dedupe_key": "the-one"}
            answers = await asyncio.gather(
                *(client.post(f"{world.urls[n % len(world.urls)]}/jobs", json=body) for n in range(200))
            )
        assert {a.status_code for a in answers} <= {200, 201}
        return [a.json()["id"] for a in answers]

    world.figures["jobs"] = float(len(set(asyncio.run(submit_all()))))


def _one_instant(world: World) -> None:
    """100,000 jobs become due at once, while the ordinary load goes on."""
    world.flow(8)
    assert world.traffic is not None
    calm_until = time.time()
    due = datetime.now(UTC) + timedelta(seconds=20)
    with Client(",".join(world.urls)) as client:
        for start in range(0, MASS, 10_000):
            client.submit_batch(
                [
                    {"task": "give", "payload": {"value": n}, "schedule_at": due.isoformat(), "queue": "mass"}
                    for n in range(start, start + 10_000)
                ]
            )
    assert datetime.now(UTC) < due, "the jobs were not stored in time to fall due at one instant"
    begin = due.timestamp()
    world.until(lambda: datetime.now(UTC) >= due)
    most = looks = 0
    end = time.monotonic() + 120
    # Counting the jobs costs the database something, so it is done now and then.
    while time.monotonic() < end and (looks % 10 or _waiting(world) > MASS / 20):
        most, looks = max(most, redis_left(world)["entries"]), looks + 1
        world.flow(0.2)
    world.figures["most in redis"] = float(most)
    _compare(world, list(world.traffic.latencies), calm_until, (begin, time.time()))
    world.healed()


def _waiting(world: World) -> int:
    with psycopg.connect(world.postgres.dsn) as connection:
        (found,) = connection.execute("SELECT count(*) FROM taskd.jobs WHERE queue = 'mass'").fetchone() or (0,)
    return int(found)


def _all_fail(world: World) -> None:
    world.flow(8)
    traffic = world.traffic
    assert traffic is not None
    begin = time.time()
    traffic.remix(Workload(short=0, long=0, flaky=0, locked=0, twins=0, failing=100))
    with Client(",".join(world.urls)) as client:
        backoff = {"initial": 2.0, "factor": 2, "max": 60, "jitter": True}
        job = {"task": "flaky", "payload": {"failures": 1}, "retry_backoff": backoff, "metadata": {"storm": True}}
        world.mass = client.submit_batch([job] * 500)
    world.flow(25)
    _compare(world, list(traffic.latencies), begin, (begin, time.time()))
    traffic.remix(Workload())
    world.healed()


def _retries(history: History, world: World) -> dict[str, float]:
    """The largest share of 500 retries, of failures at one moment, that fell due within 100 ms."""
    wanted = set(world.mass)
    delays = sorted(
        e.schedule_at - e.at
        for e in history.events
        if e.job_id in wanted and e.from_status == "running" and e.to_status == "pending"
    )
    most = max((sum(1 for d in delays if low <= d < low + 0.1) for low in delays), default=0)
    return {"retries": float(len(delays)), "at once": most / len(delays) if delays else float("inf")}


SCENARIOS = [
    Scenario(
        name="26", title="malformed, huge and deep JSON", body=_bad_input, bounds={"5xx": 0, "accepted nonsense": 0}
    ),
    Scenario(
        name="27a",
        title="500 slow clients",
        body=lambda world: _slow_clients(world, files=None),
        bounds={"times": 2, "slowest": SLOWEST},
    ),
    Scenario(
        name="27b",
        title="500 slow clients, 256 files",
        body=lambda world: _slow_clients(world, files=256),
        bounds={"recovered": 10},
    ),
    Scenario(name="29", title="200 submits of one dedupe_key", body=_one_key, bounds={"jobs": 1}),
    Scenario(
        name="30",
        title=f"{MASS:,} jobs due at one instant",
        body=_one_instant,
        shape=Shape(slots=50, queues=("mass",), environment={"LOG_LEVEL": "WARNING"}),
        # The catalogue's 3 is for a machine that has a core left (docs/fault-tests.md).
        bounds={"times": 10, "slowest": SLOWEST, "most in redis": 4000},
    ),
    Scenario(
        name="31",
        title="every task fails",
        body=_all_fail,
        bounds={"times": 2, "slowest": SLOWEST, "at once": 0.4},
        measures=_retries,
    ),
]
