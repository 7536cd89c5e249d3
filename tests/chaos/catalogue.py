"""The catalogue: every scenario by its number, in the order of the numbers."""

from __future__ import annotations

from taskd.domain.errors import ConfigurationError
from tests.chaos.run import Scenario
from tests.chaos.scenarios import (
    authors,
    cancelling,
    etcd,
    leaders,
    mix,
    network,
    postgres,
    redis,
    rolling,
    schedules,
    storms,
    tasks,
    transfers,
    workers,
)

#: What `make test` runs of it. Leaders and workers are killed by its run of `taskd torture` too.
QUICK = ("3b", "10b", "35a", "38")


def every(minutes: float) -> list[Scenario]:
    """All of them; the random mix goes on for so many minutes."""
    found = [
        *leaders.SCENARIOS,
        *workers.SCENARIOS,
        *redis.SCENARIOS,
        *postgres.SCENARIOS,
        *etcd.SCENARIOS,
        *network.SCENARIOS,
        *mix.scenarios(minutes),
        *tasks.SCENARIOS,
        *storms.SCENARIOS,
        *rolling.SCENARIOS,
        *cancelling.SCENARIOS,
        *schedules.SCENARIOS,
        *authors.SCENARIOS,
        *transfers.SCENARIOS,
    ]
    return sorted(found, key=lambda scenario: (_number(scenario.name), scenario.name))


def select(wanted: str, *, minutes: float = 2.0) -> list[Scenario]:
    """Those whose numbers are named ("1,6,10b"; "6" also means 6a and 6b), or all."""
    scenarios = every(minutes)
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    unknown = [name for name in names if not any(_means(name, s) for s in scenarios)]
    if unknown:
        known = ", ".join(s.name for s in scenarios)
        raise ConfigurationError(f"there is no scenario {', '.join(unknown)}: the scenarios are {known}")
    return [s for s in scenarios if not names or any(_means(name, s) for name in names)]


def _means(name: str, scenario: Scenario) -> bool:
    return name == scenario.name or (name.isdigit() and int(name) == _number(scenario.name))


def _number(name: str) -> int:
    return int(name.rstrip("abcdefgh"))
