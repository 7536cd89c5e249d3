"""The workload of the traffic: kinds of jobs with their shares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any

import msgspec

#: The number of lock names that the jobs with a lock share.
LOCK_NAMES = 3


class TrafficPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One job to submit. `twins` clients submit it at once; it is cancelled `cancel_after` seconds later, if that is set."""

    kind: str
    task: str
    payload: Any
    fields: Mapping[str, Any] = {}
    twins: int = 1
    cancel_after: float | None = None


#: Makes one job.
Maker = Callable[[Random], TrafficPlan]


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """The share of each kind, relative to the sum. The default is the standard mix of the fault catalogue."""

    short: float = 80.0
    long: float = 15.0
    flaky: float = 4.0
    locked: float = 0.5
    twins: float = 0.5
    cancelled: float = 0.0
    failing: float = 0.0
    #: Jobs that store checkpoints, show progress, fail, and go on.
    climbing: float = 0.0
    #: Seconds that long jobs take, at least and at most.
    long_seconds: tuple[float, float] = (1.0, 5.0)

    def plans(self, random: Random) -> Iterator[TrafficPlan]:
        """Yield jobs without end."""
        makers = self.makers()
        while True:
            (make,) = random.choices(list(makers), list(makers.values()))
            yield make(random)

    def makers(self) -> dict[Maker, float]:
        """Return the function that makes the jobs of each kind, with the kind's share."""
        return {
            _short: self.short,
            lambda r: _long(r, self.long_seconds): self.long,
            _flaky: self.flaky,
            _locked: self.locked,
            _twins: self.twins,
            _cancelled: self.cancelled,
            _failing: self.failing,
            _climbing: self.climbing,
        }


def _short(random: Random) -> TrafficPlan:
    task = random.choice(("nap", "nap", "nap", "block"))
    fields = {"priority": random.choice((0, 0, 0, 0, 5, 30, 60, 90))}
    return TrafficPlan(
        kind="short", task=task, payload={"seconds": round(random.uniform(0.01, 0.05), 3)}, fields=fields
    )


def _long(random: Random, seconds: tuple[float, float]) -> TrafficPlan:
    task = random.choice(("nap", "nap", "nap", "block"))
    return TrafficPlan(kind="long", task=task, payload={"seconds": round(random.uniform(*seconds), 2)})


def _flaky(random: Random) -> TrafficPlan:
    backoff = {"initial": round(random.uniform(0.5, 1.5), 2), "factor": 2, "max": 10, "jitter": True}
    return TrafficPlan(kind="flaky", task="flaky", payload={"failures": 1}, fields={"retry_backoff": backoff})


def _failing(random: Random) -> TrafficPlan:
    backoff = {"initial": 1.0, "factor": 2, "max": 10, "jitter": True}
    return TrafficPlan(kind="failing", task="flaky", payload={"failures": 100}, fields={"retry_backoff": backoff})


def _locked(random: Random) -> TrafficPlan:
    payload = {"name": f"lock-{random.randrange(LOCK_NAMES)}", "seconds": 0.2}
    return TrafficPlan(kind="locked", task="locked", payload=payload, fields={"max_retries": 20})


def _twins(random: Random) -> TrafficPlan:
    return TrafficPlan(kind="twins", task="nap", payload={"seconds": 0.02}, twins=random.randint(2, 4))


def _cancelled(random: Random) -> TrafficPlan:
    """Return a job whose cancel comes about when it is dispatched and claimed, about when it ends, or in the midst of it."""
    race, slip = random.randrange(3), random.uniform(-0.02, 0.03)
    if race == 0:
        fields, seconds, after = {"delay": 0.3}, 1.0, 0.3 + slip
    elif race == 1:
        fields, seconds, after = {}, 0.2, 0.22 + slip
    else:
        fields, seconds, after = {}, 15.0, 0.5  # longer than a cancelled task may go on
    return TrafficPlan(kind="cancelled", task="nap", payload={"seconds": seconds}, fields=fields, cancel_after=after)


def _climbing(random: Random) -> TrafficPlan:
    payload = {
        "steps": random.randint(4, 12),
        "seconds": round(random.uniform(0.05, 0.3), 2),
        "fall": random.randint(2, 5),
    }
    backoff = {"initial": 0.3, "factor": 1, "max": 1, "jitter": True}
    fields = {"max_retries": 20, "retry_backoff": backoff}
    return TrafficPlan(kind="climbing", task=random.choice(("climb", "scramble")), payload=payload, fields=fields)
