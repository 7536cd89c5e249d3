"""Faults as data: kind, target and time of each, drawn from a seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random

import msgspec

#: Seconds before the first fault, and between two on average.
FIRST, BETWEEN = 2.0, 4.0
#: The share of a run at its end that has no new faults, so that long faults end within it.
CALM = 0.1

SCHEDULER, WORKER = "scheduler", "worker"
#: (fault, target, count in a deck). Faults of servers that the target does not have are left out.
DECK = (
    ("SIGKILL", SCHEDULER, 3),
    ("SIGSTOP", SCHEDULER, 2),
    ("SIGTERM", SCHEDULER, 1),
    ("SIGKILL", WORKER, 3),
    ("SIGSTOP", WORKER, 2),
    ("SIGTERM", WORKER, 1),
    ("SIGKILL executors", WORKER, 2),
    ("FLUSHALL", "redis", 1),
    ("SIGKILL", "redis", 1),
    ("stop", "etcd", 1),
    ("SIGKILL", "postgres", 1),
)
#: Seconds that a fault lasts, at least and at most.
FROZEN = (2.0, 20.0)
STOPPED = (2.0, 8.0)


class PlannedFault(msgspec.Struct, frozen=True, kw_only=True):
    """One planned fault: `at` seconds after the beginning, for `hold` seconds; `whole`: the target's children too."""

    at: float
    what: str
    target: str
    hold: float = 0.0
    whole: bool = False


def plan(
    random: Random, seconds: float, members: Mapping[str, Sequence[str]], servers: Sequence[str]
) -> list[PlannedFault]:
    """Return the faults of so many seconds. `members` are names by role; the same seed and names plan the same faults."""
    deck = _deal(random, servers)
    faults, at = [], FIRST
    while at < seconds * (1 - CALM):
        what, role = next(deck)
        target = random.choice(members[role]) if role in members else role
        faults.append(_fault(random, round(at, 2), what, target))
        at += random.uniform(0.5, 1.5) * BETWEEN
    return faults


def _deal(random: Random, servers: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield cards from a deck that is shuffled anew when it is used up: so every kind of fault comes up."""
    cards = [(what, role) for what, role, count in DECK for _ in range(count) if role in (SCHEDULER, WORKER, *servers)]
    while True:
        yield from random.sample(cards, len(cards))


def _fault(random: Random, at: float, what: str, target: str) -> PlannedFault:
    if what == "SIGSTOP":
        hold = round(random.uniform(*FROZEN), 1)
        return PlannedFault(at=at, what=what, target=target, hold=hold, whole=random.random() < 0.5)
    if what == "stop":
        return PlannedFault(at=at, what=what, target=target, hold=round(random.uniform(*STOPPED), 1))
    return PlannedFault(at=at, what=what, target=target)
