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


def measured(*, quick: bool, full: bool, passes: int, console: Console) -> dict[str, Any]:
    """Return all figures of this run."""

    def say(what: str, part: str = "") -> None:
        console.print(f"measuring: {part}{what}")

    raw: Passes = {}
    own: Passes = {}
    with tempfile.TemporaryDirectory(prefix="taskd-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL's own user must get through
        with rig(folder) as cluster:
            scheduler = cluster.scheduler()
            contest = Contest(cluster, scheduler, say, peers=not quick)
            for number in range(passes):
                part = f"pass {number + 1} of {passes}: "
                say("what the servers reach by themselves", part)
                gather(raw, limits.measure(cluster, SECONDS))
                contest.run(partial(say, part=part))
                whole = contest.results["taskd"]["end to end, jobs/s"][-1]
                gather(own, figures.repeated(cluster, scheduler, whole, partial(say, part=part)))
            single = figures.once(cluster, scheduler, say, quick=quick)
            if full:
                single |= large.measure(cluster, scheduler, say)
            machine = described(cluster.dsn, cluster.servers.redis.url, cluster.servers.etcd.address)
    raced = {name: values for name, values in contest.results["taskd"].items() if not name.startswith("idle")}
    beside = ratios(contest.results, own["drain, plain, jobs/s"])
    return {
        "machine": {**machine, "passes": str(passes)},
        "limits": medians(raw),
        "figures": medians(raced) | medians(own) | single | medians(beside),
        "passes": raw | raced | own,
        "ratios": beside,
        "contest": contest.results,
        "notes": contest.notes,
    }


def compared(document: dict[str, Any], console: Console) -> None:
    """Report figures that became slower since the committed run, and those that cannot be compared with it."""
    if not LAST.exists():
        return
    then = json.loads(LAST.read_text())
    for line in comparison.fallen(document, then):
        console.print(f"slower than in bench/last.json: {line}", style="yellow", highlight=False)
    left_out = comparison.uncompared(document, then)
    console.print(
        f"compared with bench/last.json of {then['machine']['at']}, except for {len(left_out)} figures:", style="dim"
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
    document = measured(
        quick=arguments.quick,
        full=arguments.large and not arguments.quick,
        passes=arguments.passes or (1 if arguments.quick else 3),
        console=console,
    )
    report.write(document, OUT)
    report.show(document, console)
    compared(document, console)
    missed = below(document["figures"])
    for name in missed:
        console.print(f"below the floor: {name} ({TARGETS[name].floor})", style="red")
    sys.exit(bool(missed))


def _on(name: str, default: str) -> bool:
    return os.environ.get(name, default) not in ("", "0")


if __name__ == "__main__":
    main()
