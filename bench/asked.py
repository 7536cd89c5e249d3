"""The latency of an idle system: one job at a time, each a while after the last was done."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from statistics import median

import psycopg
import redis

from bench.contestants import Contestant, Tallies
from bench.moments import share
from bench.rig import Rig, until

#: Seconds from one job to the next, between two polls of its start, and until it counts as failed.
PAUSE, LOOK, PATIENCE = 0.02, 0.0002, 30.0


def idle(contestant: Contestant, tallies: Tallies, rig: Rig, jobs: int) -> dict[str, float]:
    """Return milliseconds from submit to start, and until the system has recorded the end.

    The system is at rest: work that earlier jobs left to PostgreSQL is done first, as it would be after a while.
    """
    rig.rest()
    wanted = tallies.done + 1
    with unfinished(contestant.unfinished, rig) as left, contestant.client.asked() as ask:
        until(lambda: tallies.done >= wanted)
        probes = []
        for _ in range(jobs):
            time.sleep(PAUSE)
            probes.append(_probe(ask, tallies, left))
    starts, ends = sorted(start for start, _ in probes), sorted(end for _, end in probes)
    return {
        "idle, submit to start p50, ms": median(starts),
        "idle, submit to start p99, ms": share(starts, 99),
        "idle, submit to done p50, ms": median(ends),
        "idle, submit to done p99, ms": share(ends, 99),
    }


def _probe(ask: Callable[[], None], tallies: Tallies, left: Callable[[], int]) -> tuple[float, float]:
    """Return milliseconds until one job began, and until the system recorded its end. Raises TimeoutError."""
    tallies.forget()
    before = left()  # killed workers may have left some behind
    ask()
    deadline = time.monotonic() + PATIENCE
    while not (started := tallies.started()):
        _patient(deadline)
        time.sleep(LOOK)
    while left() > before:
        _patient(deadline)
    over = time.monotonic_ns()
    sent, began = started[0]
    return (began - sent) / 1e6, (over - sent) / 1e6


def _patient(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError("a job of an idle system did not get done")


@contextlib.contextmanager
def unfinished(question: str, rig: Rig) -> Iterator[Callable[[], int]]:
    """Return how many jobs have no recorded end: asked of PostgreSQL in SQL, or else of Redis in Lua."""
    if question.startswith("SELECT"):
        with psycopg.connect(rig.dsn, autocommit=True) as connection:

            def rows() -> int:
                row = connection.execute(question.encode(), prepare=True).fetchone()
                assert row is not None
                return int(row[0])

            yield rows
    else:
        with redis.Redis.from_url(rig.servers.redis.url) as client:
            script = client.register_script(question)
            yield lambda: int(script())
