"""Measure taskd, its peers and the limits of the servers, in one run: `make bench`, or short with QUICK=1.

A short run is one pass without peers and without full tables. Each run reports figures that became slower since the
committed one (bench/last.json).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import comparison, figures, large, limits, report
from bench.contest import Contest, Passes, gather, medians
from bench.machine import described
from bench.rig import rig
from bench.targets import TARGETS, below, ratios

HERE = Path(__file__).parent
OUT, LAST = HERE / "out", HERE / "last.json"
#: Seconds for each limit, in each pass.
SECONDS = 1.5


def measure(*, quick: bool, full: bool, passes: int, console: Console) -> dict[str, Any]:
    """Return all figures of this run."""

    def report_progress(step: str, part: str = "") -> None:
        console.print(f"measuring: {part}{step}")

    limit_passes: Passes = {}
    repeated: Passes = {}
    with tempfile.TemporaryDirectory(prefix="taskd-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL's own user must get through
        with rig(folder) as cluster:
            scheduler = cluster.scheduler()
            contest = Contest(cluster, scheduler, report_progress, peers=not quick)
            for number in range(passes):
                part = f"pass {number + 1} of {passes}: "
                report_progress("what the servers reach by themselves", part)
                gather(limit_passes, limits.measure(cluster, SECONDS))
                contest.run(partial(report_progress, part=part))
                rate = contest.results["taskd"]["end to end, jobs/s"][-1]
                gather(repeated, figures.repeated(cluster, scheduler, rate, partial(report_progress, part=part)))
            single = figures.once(cluster, scheduler, report_progress, quick=quick)
            if full:
                single |= large.measure(cluster, scheduler, report_progress)
            machine = described(cluster.dsn, cluster.servers.redis.url, cluster.servers.etcd.address)
    contest_passes = {name: values for name, values in contest.results["taskd"].items() if not name.startswith("idle")}
    multiples = ratios(contest.results, repeated["drain, plain, jobs/s"])
    return {
        "machine": {**machine, "passes": str(passes)},
        "limits": medians(limit_passes),
        "figures": medians(contest_passes) | medians(repeated) | single | medians(multiples),
        "passes": limit_passes | contest_passes | repeated,
        "ratios": multiples,
        "contest": contest.results,
        "notes": contest.notes,
    }


def report_comparison(document: dict[str, Any], console: Console) -> None:
    """Report figures that became slower since the committed run, and those that cannot be compared with it."""
    if not LAST.exists():
        return
    previous = json.loads(LAST.read_text())
    for line in comparison.slower(document, previous):
        console.print(f"slower than in bench/last.json: {line}", style="yellow", highlight=False)
    left_out = comparison.uncompared(document, previous)
    console.print(
        f"compared with bench/last.json of {previous['machine']['at']}, except for {len(left_out)} figures:",
        style="dim",
    )
    console.print(f"not measured here: {'; '.join(left_out) or 'none'}", style="dim", highlight=False)


def main() -> None:
    """Measure and report. The exit status is 1 if a figure is below its floor."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", default=_on("QUICK", "0"), help="one pass, and no peers")
    parser.add_argument(
        "--large",
        action=argparse.BooleanOptionalAction,
        default=_on("LARGE", "1"),
        help="also with full tables (4 GB of disk); never with --quick",
    )
    parser.add_argument("--passes", type=int, default=0, help="interleaved passes (3, or 1 with --quick)")
    arguments = parser.parse_args()
    console = Console()
    document = measure(
        quick=arguments.quick,
        full=arguments.large and not arguments.quick,
        passes=arguments.passes or (1 if arguments.quick else 3),
        console=console,
    )
    report.write(document, OUT)
    report.show(document, console)
    report_comparison(document, console)
    missed = below(document["figures"])
    for name in missed:
        console.print(f"below the floor: {name} ({TARGETS[name].floor})", style="red")
    sys.exit(bool(missed))


def _on(name: str, default: str) -> bool:
    return os.environ.get(name, default) not in ("", "0")


if __name__ == "__main__":
    main()
