"""The limit beside each figure: the same work by this machine's servers or network alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

Limits = Mapping[str, float]

INSERT = "PostgreSQL, rows inserted by the thousand, rows/s"
LIFE = "PostgreSQL, insert and three updates by the thousand, rows/s"
LIFE_CPU = "PostgreSQL, insert and three updates by the thousand, CPU, s per 100,000 rows"
COMMITS = "PostgreSQL, single commits, commits/s"
ADD = "Redis, entries added by the thousand, entries/s"
HTTP = "HTTP, bare answers on 100 connections"
STEADY = "HTTP, bare answers to 5,000 requests a second"
BARE = "HTTP, server of bare answers, memory, MB"


class Ceiling(NamedTuple):
    """A named limit.

    `value` selects it, in the unit of the figure, from the measured ones; KeyError if it was not measured.
    """

    name: str
    value: Callable[[Limits], float]


def _of(name: str, limit: str) -> Ceiling:
    return Ceiling(name, lambda limits: limits[limit])


def _commits(name: str, times: int) -> Ceiling:
    return Ceiling(name, lambda limits: times * 1000 / limits[COMMITS])


_inserts = _of("inserts by the thousand", INSERT)
_life = _of("insert and three updates", LIFE)
#: A drain begins with stored rows.
_updates = Ceiling("three updates", lambda limits: 1 / (1 / limits[LIFE] - 1 / limits[INSERT]))
_http = _of("bare HTTP", f"{HTTP}, requests/s")
#: Commits that must be durable before a job starts (its submit), and before it has ended (also its claim and its end).
_start, _end = _commits("one commit", 1), _commits("three commits", 3)

CEILINGS = {
    "one by one, jobs/s": _of("single commits", COMMITS),
    "in bulk, jobs/s": _inserts,
    "drain, jobs/s": _updates,
    "drain, plain, jobs/s": _updates,
    "end to end, jobs/s": _life,
    "CPU, s per 100,000 jobs": _of("insert and three updates", LIFE_CPU),
    "idle, submit to start p50, ms": _start,
    "idle, submit to start p99, ms": _start,
    "idle, submit to done p50, ms": _end,
    "idle, submit to done p99, ms": _end,
    "idle, submit to seen completed p50, ms": _end,
    "idle, submit to seen completed p99, ms": _end,
    "half load, submit to start p50, ms": _start,
    "half load, submit to start p99, ms": _start,
    "half load, one by one, submit to start p50, ms": _start,
    "half load, one by one, submit to start p99, ms": _start,
    "POST /jobs, 100 connections, jobs/s": _http,
    "POST /jobs, 100 connections, p50, ms": _of("bare HTTP", f"{HTTP}, p50, ms"),
    "POST /jobs, 100 connections, p99, ms": _of("bare HTTP", f"{HTTP}, p99, ms"),
    "POST /jobs, 5,000 a second, jobs/s": Ceiling("what is sent", lambda _: 5000.0),
    "POST /jobs, 5,000 a second, p50, ms": _of("bare HTTP", f"{STEADY}, p50, ms"),
    "POST /jobs, 5,000 a second, p99, ms": _of("bare HTTP", f"{STEADY}, p99, ms"),
    "POST /jobs/batch of 1,000 on 1 connection, jobs/s": _inserts,
    "POST /jobs/batch of 1,000 on 4 connections, jobs/s": _inserts,
    "submit_many of 1,000 from Python, jobs/s": _inserts,
    "taskd.submit_many of 1,000 in SQL, jobs/s": _inserts,
    "one by one, end to end, jobs/s": _http,
    "memory, scheduler, MB": _of("bare HTTP", BARE),
}


class LimitShare(NamedTuple):
    """The limit of a figure, and the reached share of it."""

    name: str
    limit: float
    share: float


def limit_share(name: str, figure: float, limits: Limits) -> LimitShare | None:
    """Return the limit of a figure; None if it has none, or if it was not measured.

    The share is the figure divided by the limit for a rate, and the limit divided by the figure for a time or a cost: 1
    is the best possible.
    """
    ceiling = CEILINGS.get(name)
    try:
        limit = ceiling.value(limits) if ceiling else 0.0
    except KeyError:
        return None
    if ceiling is None or not figure:
        return None
    return LimitShare(ceiling.name, limit, figure / limit if higher_is_better(name) else limit / figure)


def higher_is_better(name: str) -> bool:
    """Return True if more of a figure is better: for rates, and for multiples of another figure."""
    return name.endswith("jobs/s") or ", of " in name
