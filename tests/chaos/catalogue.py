"""The fault catalogue: every scenario, in the order of the numbers."""

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

#: The scenarios that `make test` runs. Its run of `taskd torture` kills leaders and workers too.
QUICK = ("3b", "10b", "35a", "38")


def all_scenarios(minutes: float) -> list[Scenario]:
    """Return all scenarios, with random mixes of `minutes` minutes."""
    scenarios = [
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
    return sorted(scenarios, key=lambda scenario: (_number(scenario.name), scenario.name))


def select(wanted: str, *, minutes: float = 2.0) -> list[Scenario]:
    """Return the scenarios with these numbers ("1,6,10b"; "6" also means 6a and 6b), or all if none is named.

    Raises ConfigurationError if a number is unknown.
    """
    scenarios = all_scenarios(minutes)
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    unknown = [name for name in names if not any(_matches(name, s) for s in scenarios)]
    if unknown:
        known = ", ".join(s.name for s in scenarios)
        raise ConfigurationError(f"there is no scenario {', '.join(unknown)}: the scenarios are {known}")
    return [s for s in scenarios if not names or any(_matches(name, s) for name in names)]


def _matches(name: str, scenario: Scenario) -> bool:
    return name == scenario.name or (name.isdigit() and int(name) == _number(scenario.name))


def _number(name: str) -> int:
    return int(name.rstrip("abcdefgh"))
