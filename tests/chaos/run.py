"""Run one scenario: cluster, traffic, faults, quiet, history, checker, figures, verdict."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskd.torture import history as histories
from taskd.torture import quiet
from taskd.torture.checker import Violation, check
from taskd.torture.figures import undecided
from taskd.torture.history import History, Meta
from tests.chaos import measure
from tests.chaos.shape import GRACE, SESSION_TTL, Shape
from tests.chaos.world import World
from tests.servers import wait_until

#: Seconds that the cluster may take to become quiet after the repair.
QUIET = 30.0
#: Parts of log lines that only an unexpected error writes.
BUGS = ("(a bug;", "never retrieved", "never awaited", "unhandled", "Traceback (most recent call last)")

Body = Callable[[World], None]
Measures = Callable[[History, World], dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Scenario of the catalogue. `bounds` are the upper bounds of the figures with these names."""

    name: str
    title: str
    body: Body
    shape: Shape = field(default_factory=Shape)
    bounds: dict[str, float] = field(default_factory=dict)
    measures: Measures | None = None
    #: Returns the reason why it cannot run here, or None.
    missing: Callable[[], str | None] = lambda: None
    #: False for scenarios whose tasks end processes on purpose, with errors in the log.
    tidy: bool = True


@dataclass(kw_only=True)
class Row:
    """Result of a scenario: one row of the table."""

    scenario: Scenario
    accepted: int = 0
    lost: int = 0
    doubled: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)
    #: Exceeded bounds and other failures, a sentence each.
    complaints: list[str] = field(default_factory=list)
    left_out: str | None = None
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """True if nothing was lost, doubled, violated or complained about."""
        return not (self.lost or self.doubled or self.violations or self.complaints)


def run(scenario: Scenario, seed: int, folder: Path) -> Row:
    """Run one scenario, with all its files under `folder`."""
    row = Row(scenario=scenario, left_out=scenario.missing())
    if row.left_out:
        return row
    began = time.monotonic()
    world = World(folder, scenario.shape, seed)
    try:
        with world:
            _run_body(scenario, world, row)
    except Exception as error:
        row.complaints.append(f"{type(error).__name__}: {str(error)[:300]}")
        (folder / "error.txt").write_text(traceback.format_exc())
    if (world.history / "meta.json").exists():
        _judge(scenario, world, row)
    row.seconds = time.monotonic() - began
    return row


def _run_body(scenario: Scenario, world: World, row: Row) -> None:
    assert world.traffic is not None
    traffic = world.traffic
    world.until(lambda: len(traffic.accepted) > scenario.shape.rate / 2, 60)
    try:
        scenario.body(world)
        world.flow(max(0.0, world.began + scenario.shape.load - time.monotonic()))
    finally:
        world.repair()
        load_until = time.time()
        traffic.stop()
        row.accepted = len(set(traffic.accepted.values()))
        world.count_unexpected()
        _record(scenario, world, calm=_quiet(world), load_until=load_until)
        world.count_unexpected()


def _quiet(world: World) -> bool:
    """Return True if every job is final and Redis empty within the bound."""
    try:
        wait_until(lambda: quiet.is_quiet(world.postgres.dsn, world.redis.connect), QUIET)
    except AssertionError:
        return False
    return True


def redis_left(world: World) -> dict[str, int]:
    """Return the numbers of entries and of pending entries of all streams in Redis."""
    left = quiet.redis_left(world.redis.connect)
    return {"entries": left.entries, "pending": left.pending}


def _record(scenario: Scenario, world: World, *, calm: bool, load_until: float) -> None:
    histories.record(world.postgres.dsn, world.history)
    Meta(
        scenario=scenario.name,
        seed=world.seed,
        session_ttl=SESSION_TTL,
        ageing=60.0,
        grace=GRACE,
        cancel_bound=10.0,
        boot_offset=time.time() - time.clock_gettime(time.CLOCK_BOOTTIME),
        healed_at=world.healed_at,
        load_from=time.time() - (time.monotonic() - world.began),
        load_until=load_until,
        quiet=calm,
        redis=quiet.redis_left(world.redis.connect),
    ).save(world.history)


def _judge(scenario: Scenario, world: World, row: Row) -> None:
    history = History.load(world.history)
    row.violations = check(history)
    row.lost, row.doubled = measure.lost(history), measure.doubled(history)
    measured = scenario.measures(history, world) if scenario.measures else {}  # it may remove helper values
    row.figures = {**world.figures, **measured}
    if not history.meta.quiet:
        row.complaints.append(f"not quiet {QUIET:.0f} s after the repair")
    for name, bound in scenario.bounds.items():
        figure = row.figures.get(name)
        if figure is None or figure > bound:
            row.complaints.append(f"{name} is {figure if figure is None else round(figure, 2)}, bound {bound:g}")
    row.complaints += world.unexpected
    if scenario.tidy:
        row.complaints += _bugs(world)
    if pending := undecided(history):
        row.complaints.append(f"{pending} submits were never decided")


def _bugs(world: World) -> list[str]:
    return [
        f"{member.name} logged: {line[:200]}"
        for member in world.members.values()
        for line in member.output.splitlines()
        if '"event": "attempt ended"' not in line and any(sign in line for sign in BUGS)
    ][:3]


def summary(row: Row) -> dict[str, Any]:
    """Return the row as it is stored in results.json."""
    return {
        "scenario": row.scenario.name,
        "title": row.scenario.title,
        "accepted": row.accepted,
        "lost": row.lost,
        "doubled": row.doubled,
        "figures": {name: round(value, 3) for name, value in row.figures.items()},
        "bounds": row.scenario.bounds,
        "violations": [f"{v.invariant} {v.message}" for v in row.violations[:20]],
        "complaints": row.complaints,
        "left_out": row.left_out,
        "seconds": round(row.seconds, 1),
        "passed": row.passed,
    }
