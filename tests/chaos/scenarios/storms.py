"""Bad input, slow clients, and many jobs with one key, one due time or failures (scenarios 26, 27, 29 to 31)."""

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

#: Minimum of seconds for ratios: shorter response times vary too much.
FLOOR = 0.02
#: Seconds that no response may take in a storm.
SLOWEST = 3
MASS = 100_000
#: Default limit of an HTTP body in bytes.
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
                    response = client.post(f"{url}{path}", content=body, headers=headers)
                    statuses[response.status_code] += 1
    world.figures["refused"] = float(sum(n for status, n in statuses.items() if 400 <= status < 500))
    world.figures["5xx"] = float(sum(n for status, n in statuses.items() if status >= 500))
    world.figures["accepted nonsense"] = float(sum(n for status, n in statuses.items() if status < 400))


def _slow_clients(world: World, *, files: int | None) -> None:
    world.flow(10)
    scheduler = world.leader()
    if files is not None:
        resource.prlimit(scheduler.pid, resource.RLIMIT_NOFILE, (files, files))
    begin = time.time()
    with world.fault("slow clients", scheduler.name), _connected_slow_clients(scheduler.port, 500) as clients:
        connected = time.time()
        world.flow(10)
        world.figures["clients"] = float(clients)
        assert files is not None or clients > 450
    if files is not None:
        began = time.monotonic()
        world.until(lambda: scheduler.ready, 30)
        world.figures["recovered"] = time.monotonic() - began
    assert world.traffic is not None
    latencies = list(world.traffic.latencies)
    _compare(world, latencies, begin, (connected, connected + 10))


def _compare(world: World, latencies: list[tuple[float, int, float]], begin: float, storm: tuple[float, float]) -> None:
    """Record the slow response times before and during the storm as figures.

    A missing response counts with the time that the client waited.
    """
    before = [(at, s) for at, status, s in latencies if at < begin and status in (200, 201)]
    during = [(at, s) for at, _, s in latencies if storm[0] < at < storm[1]]
    assert before, "no request was answered before the storm"
    calm, busy = measure.typical(before, 99), measure.typical(during, 99)
    world.figures |= {"submit p99 before": calm, "submit p99 during": busy, "times": busy / max(calm, FLOOR)}
    world.figures["slowest"] = max(s for _, s in during)


@contextmanager
def _connected_slow_clients(port: int, clients: int) -> Iterator[int]:
    """Run clients that send their requests byte by byte and never finish; yield the number of accepted connections."""
    command = [sys.executable, "-m", "tests.chaos.slow_clients", str(port), str(clients)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(30)


def _one_key(world: World) -> None:
    async def submit_all() -> list[int]:
        async with httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_connections=200)) as client:
            body = {"payload": {"seconds": 0.01}, "task": "nap", "dedupe_key": "the-one"}
            responses = await asyncio.gather(
                *(client.post(f"{world.urls[n % len(world.urls)]}/jobs", json=body) for n in range(200))
            )
        assert {r.status_code for r in responses} <= {200, 201}
        return [r.json()["id"] for r in responses]

    world.figures["jobs"] = float(len(set(asyncio.run(submit_all()))))


def _one_instant(world: World) -> None:
    """Let 100,000 jobs become due at once during the ordinary load."""
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
    most = rounds = 0
    end = time.monotonic() + 120
    # Counting the jobs loads the database, so only each tenth round does it.
    while time.monotonic() < end and (rounds % 10 or _waiting(world) > MASS / 20):
        most, rounds = max(most, redis_left(world)["entries"]), rounds + 1
        world.flow(0.2)
    world.figures["most in redis"] = float(most)
    _compare(world, list(world.traffic.latencies), calm_until, (begin, time.time()))
    world.healed()


def _waiting(world: World) -> int:
    with psycopg.connect(world.postgres.dsn) as connection:
        (count,) = connection.execute("SELECT count(*) FROM taskd.jobs WHERE queue = 'mass'").fetchone() or (0,)
    return int(count)


def _all_fail(world: World) -> None:
    world.flow(8)
    traffic = world.traffic
    assert traffic is not None
    begin = time.time()
    traffic.remix(Workload(short=0, long=0, flaky=0, locked=0, twins=0, failing=100))
    with Client(",".join(world.urls)) as client:
        backoff = {"initial": 2.0, "factor": 2, "max": 60, "jitter": True}
        job = {"task": "flaky", "payload": {"failures": 1}, "retry_backoff": backoff, "metadata": {"storm": True}}
        world.bulk_jobs = client.submit_batch([job] * 500)
    world.flow(25)
    _compare(world, list(traffic.latencies), begin, (begin, time.time()))
    traffic.remix(Workload())
    world.healed()


def _retries(history: History, world: World) -> dict[str, float]:
    """Measure the largest share of the retries of 500 simultaneous failures that became due within 100 ms."""
    failed_jobs = set(world.bulk_jobs)
    delays = sorted(
        e.schedule_at - e.at
        for e in history.events
        if e.job_id in failed_jobs and e.from_status == "running" and e.to_status == "pending"
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
        # The bound 3 of docs/fault-tests.md holds for a machine with a free core.
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
