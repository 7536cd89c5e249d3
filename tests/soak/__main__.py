"""Run a soak: `make soak`, or `python -m tests.soak`, with MINUTES (30) and SEED. Exit status 0 if nothing grows."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
from pathlib import Path

from rich.console import Console

from tests.chaos.shape import Shape
from tests.chaos.world import World
from tests.servers import temporary_folder, wait_until
from tests.soak import feeder
from tests.soak.causes import Fault, explain, loud
from tests.soak.report import Report, show
from tests.soak.restarts import restart_at_random
from tests.soak.sampler import Sampler
from tests.soak.stores import Stores
from tests.soak.verdict import bounds, judge

OUT = Path("build/soak")
#: Seconds for which the maximum is measured.
MEASURE = 10.0
#: Seconds that the cluster may take to finish the last jobs.
DRAIN = 60.0
#: Bytes on the disk for a finished job: about 300 for its row and index, and a margin for PostgreSQL's log. A soak uses
#: at most a third of the free disk, and lowers its rate if half of the maximum would need more.
DISK_PER_JOB, DISK_SHARE = 1000, 1 / 3
#: The level INFO would give a line for each attempt.
SHAPE = Shape(schedulers=2, workers=3, slots=200, rate=0, audit=False, environment={"LOG_LEVEL": "WARNING"})


def main() -> int:
    """Run a soak and report it; return 1 if anything is wrong."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    if not Path("/proc/self/smaps_rollup").exists():
        console.print("a soak needs Linux: it reads /proc")
        return 2
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1, 10**6))
    minutes = float(os.environ.get("MINUTES") or 30)
    out = Path(os.environ.get("OUT") or OUT) / f"seed-{seed}"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    console.print(f"soak: seed {seed}, {minutes:g} minutes; figures and logs go to {out}", highlight=False)
    with temporary_folder() as folder:
        world = World(folder / "world", SHAPE, seed)
        try:
            with world:
                report = soak(world, minutes, out, console)
        finally:
            if (world.folder / "logs").exists():
                shutil.copytree(world.folder / "logs", out / "logs")
    (out / "report.json").write_text(json.dumps(report.json(), indent=1, default=str))
    show(report, console)
    return 1 if report.complaints else 0


def soak(world: World, minutes: float, out: Path, console: Console) -> Report:
    """Measure the maximum, run the load with restarts, and return the report."""
    chance, begun = random.Random(world.seed), time.time()
    stores, sampler = Stores(world), Sampler(world, out / "samples.ndjson")
    maximum, flood = feeder.maximum(world.urls, stores.finished, MEASURE, chance)
    rate = _rate(maximum, minutes, world.folder, console)
    report = Report(seed=world.seed, minutes=minutes, maximum=maximum, rate=rate)
    load = feeder.Feeder(world.urls, rate, chance)
    _drained(stores)
    load.start()
    sampler.start()
    try:
        # A separate generator from the load's, so that a seed repeats the restarts.
        report.restarts = restart_at_random(world, minutes * 60, random.Random(f"restarts {world.seed}"))
    finally:
        load.stop()
        sampler.stop()
    report.submitted, report.behind = flood + load.submitted, load.behind
    report.problems += [f"a submit failed: {text}" for text in load.failures[:5]]
    report.problems += [f"a server did not answer the sampler: {text}" for text in sampler.failures[:5]]
    if not _drained(stores):
        report.problems.append(f"{DRAIN:.0f} s after the load's end there is left: {stores.left()}")
    _count(report, stores)
    stores.close()
    _judge(report, sampler, sum(report.restarts.values()))
    _read_logs(report, world, begun)
    return report


def _rate(maximum: float, minutes: float, folder: Path, console: Console) -> float:
    room = shutil.disk_usage(folder).free * DISK_SHARE / DISK_PER_JOB / (minutes * 60)
    rate = min(maximum / 2, room)
    disk = rate * minutes * 60 * DISK_PER_JOB / 1e9
    capped = "" if rate < room else ": less than half, for the disk has no room for more"
    console.print(
        f"maximum here {maximum:,.0f} jobs/s; the load is {rate:,.0f} jobs/s{capped}; finished jobs stay: about {disk:.1f} GB",
        highlight=False,
    )
    return rate


def _drained(stores: Stores) -> bool:
    try:
        wait_until(lambda: not any(stores.left().values()), DRAIN)
    except AssertionError:
        return False
    return True


def _count(report: Report, stores: Stores) -> None:
    """Report a problem unless every accepted job is final exactly once."""
    report.ends, stored, _ = stores.ends()
    counted = sum(report.ends.values())
    if not report.submitted == counted == stored:
        report.problems.append(
            f"{report.submitted:,} jobs submitted, {counted:,} counted as final, {stored:,} final rows"
        )
    if report.ends.keys() - {"completed"}:
        report.problems.append(f"some jobs did not complete: {report.ends}")


def _judge(report: Report, sampler: Sampler, starts: int) -> None:
    series = dict(sampler.series)
    held = series.pop(("stores", 0), {})
    report.processes = [judge(name, pid, figures) for (name, pid), figures in sorted(series.items())]
    members, slots = SHAPE.schedulers + SHAPE.workers, SHAPE.workers * SHAPE.slots
    report.bounds = bounds(held, rate=report.rate, maximum=report.maximum, slots=slots, members=members, starts=starts)


def _read_logs(report: Report, world: World, begun: float) -> None:
    noted = [json.loads(line) for line in (world.history / "faults.ndjson").read_text().splitlines()]
    faults = [Fault(note["at"], note["what"], note["target"]) for note in noted]
    faults.append(Fault(begun - 60, "begin", "servers"))
    for log in sorted((world.folder / "logs").glob("*.log")):
        for line in loud(log.stem, log.read_text(errors="replace")):
            cause = explain(line, faults)
            if cause is None:
                report.unexplained.append(line)
            else:
                report.causes[cause] = report.causes.get(cause, 0) + 1


if __name__ == "__main__":
    sys.exit(main())
