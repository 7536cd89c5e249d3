"""The latency of an idle system: one job at a time, each a pause after the end of the last one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from statistics import median

import psycopg
import redis

from bench.contestants import Contestant, Tallies
from bench.job_times import percentile
from bench.rig import Rig, until

#: Seconds from one job to the next, between two polls of its start, and until it counts as failed.
PAUSE, POLL, TIMEOUT = 0.02, 0.0002, 30.0


def idle(contestant: Contestant, tallies: Tallies, rig: Rig, jobs: int) -> dict[str, float]:
    """Return the percentiles of milliseconds from submit to start, and until the system has recorded the end.

    The system is at rest: PostgreSQL finishes the remaining work of earlier jobs first.
    """
    rig.finish_background_work()
    expected = tallies.done + 1
    with unfinished(contestant.unfinished, rig) as count_unfinished, contestant.client.interactive() as submit:
        until(lambda: tallies.done >= expected)
        probes = []
        for _ in range(jobs):
            time.sleep(PAUSE)
            probes.append(_probe(submit, tallies, count_unfinished))
    starts, ends = sorted(start for start, _ in probes), sorted(end for _, end in probes)
    return {
        "idle, submit to start p50, ms": median(starts),
        "idle, submit to start p99, ms": percentile(starts, 99),
        "idle, submit to done p50, ms": median(ends),
        "idle, submit to done p99, ms": percentile(ends, 99),
    }


def _probe(submit: Callable[[], None], tallies: Tallies, count_unfinished: Callable[[], int]) -> tuple[float, float]:
    """Return milliseconds until one job began, and until the system recorded its end. Raises TimeoutError."""
    tallies.clear_starts()
    before = count_unfinished()  # killed workers may have left some unfinished
    submit()
    deadline = time.monotonic() + TIMEOUT
    while not (started := tallies.started()):
        _check_deadline(deadline)
        time.sleep(POLL)
    while count_unfinished() > before:
        _check_deadline(deadline)
    ended = time.monotonic_ns()
    sent, began = started[0]
    return (began - sent) / 1e6, (ended - sent) / 1e6


def _check_deadline(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError("a job of an idle system did not end in time")


@contextlib.contextmanager
def unfinished(query: str, rig: Rig) -> Iterator[Callable[[], int]]:
    """Yield a function that counts jobs without a recorded end, by a query in SQL or a script in Lua."""
    if query.startswith("SELECT"):
        with psycopg.connect(rig.dsn, autocommit=True) as connection:

            def rows() -> int:
                row = connection.execute(query.encode(), prepare=True).fetchone()
                assert row is not None
                return int(row[0])

            yield rows
    else:
        with redis.Redis.from_url(rig.servers.redis.url) as client:
            script = client.register_script(query)
            yield lambda: int(script())
