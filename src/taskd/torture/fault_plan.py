"""Faults as data: what will be done to whom, and when, drawn from a seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random

import msgspec

#: Seconds before the first fault, and between two on average.
FIRST, BETWEEN = 2.0, 4.0
#: The last part of a run is without new faults, so that those that take a while have an end.
CALM = 0.1

SCHEDULER, WORKER = "scheduler", "worker"
#: (what, to whom, how often in a deck). Servers are named; whoever has none draws from the others.
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
    """One fault to be: `at` seconds after the beginning, for `hold` seconds; `whole`: the children of the target too."""

    at: float
    what: str
    target: str
    hold: float = 0.0
    whole: bool = False


def plan(
    random: Random, seconds: float, members: Mapping[str, Sequence[str]], servers: Sequence[str]
) -> list[PlannedFault]:
    """The faults of so many seconds. `members` are names by role; the same seed and names plan the same faults."""
    deck = _deal(random, servers)
    strikes, at = [], FIRST
    while at < seconds * (1 - CALM):
        what, whom = next(deck)
        target = random.choice(members[whom]) if whom in members else whom
        strikes.append(_strike(random, round(at, 2), what, target))
        at += random.uniform(0.5, 1.5) * BETWEEN
    return strikes


def _deal(random: Random, servers: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Card by card, shuffled anew when the deck is through: every kind has its turn."""
    cards = [(what, whom) for what, whom, count in DECK for _ in range(count) if whom in (SCHEDULER, WORKER, *servers)]
    while True:
        yield from random.sample(cards, len(cards))


def _strike(random: Random, at: float, what: str, target: str) -> PlannedFault:
    if what == "SIGSTOP":
        hold = round(random.uniform(*FROZEN), 1)
        return PlannedFault(at=at, what=what, target=target, hold=hold, whole=random.random() < 0.5)
    if what == "stop":
        return PlannedFault(at=at, what=what, target=target, hold=round(random.uniform(*STOPPED), 1))
    return PlannedFault(at=at, what=what, target=target)
