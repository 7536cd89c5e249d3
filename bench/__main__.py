"""Measures taskd, its peers and the servers beneath, in one run on this machine. `make bench`, or QUICK=1 for a short one.

A short run measures no peers. Each run says what became slower since the committed one (bench/last.json).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from bench import contest, figures, large, limits, report
from bench.machine import described
from bench.rig import rig
from bench.targets import TARGETS, holds, ratios

HERE = Path(__file__).parent
OUT, LAST = HERE / "out", HERE / "last.json"


def measured(*, quick: bool, full: bool, passes: int, console: Console) -> dict[str, Any]:
    """Everything that was found."""

    def say(what: str) -> None:
        console.print(f"measuring: {what}")

    with tempfile.TemporaryDirectory(prefix="taskd-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL's own user must get through
        with rig(folder) as cluster:
            scheduler = cluster.scheduler()
            raw = limits.measure(cluster, 1.0 if quick else 5.0, say)
            found = contest.compete(cluster, scheduler, passes, say, peers=not quick)
            own = {name: median(values) for name, values in found.results["taskd"].items() if name.startswith("end")}
            own |= figures.measure(cluster, scheduler, own["end to end, jobs/s"], quick=quick, say=say)
            if full:
                own |= large.measure(cluster, scheduler, say)
            machine = described(cluster.dsn, cluster.servers.redis.url, cluster.servers.etcd.address)
    beside = ratios(found.results, own)
    own |= {name: median(values) for name, values in beside.items()}
    return {
        "machine": {**machine, "passes": str(passes)},
        "limits": raw,
        "figures": own,
        "ratios": beside,
        "contest": found.results,
        "notes": found.notes,
    }


def main() -> None:
    """Measure and report; the exit status is 1 if a floor was not kept."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", default=_on("QUICK"), help="fewer and shorter passes, and no peers"
    )
    parser.add_argument(
        "--large", action="store_true", default=_on("LARGE"), help="also with full tables (4 GB of disk)"
    )
    parser.add_argument("--passes", type=int, default=0, help="interleaved passes (3, or 1 with --quick)")
    arguments = parser.parse_args()
    console = Console()
    document = measured(
        quick=arguments.quick,
        full=arguments.large,
        passes=arguments.passes or (1 if arguments.quick else 3),
        console=console,
    )
    report.write(document, OUT)
    report.show(document["figures"], document["limits"], document["contest"], console)
    console.print(", ".join(f"{key} {value}" for key, value in document["machine"].items()), style="dim")
    if LAST.exists():
        for line in report.fallen(document["figures"], document["limits"], json.loads(LAST.read_text())):
            console.print(f"slower than in bench/last.json: {line}", style="yellow")
    missed = [
        name
        for name, figure in document["figures"].items()
        if name in TARGETS and not holds(figure, TARGETS[name].floor)
    ]
    for name in missed:
        console.print(f"below the floor: {name} ({TARGETS[name].floor})", style="red")
    sys.exit(bool(missed))


def _on(name: str) -> bool:
    return os.environ.get(name, "0") not in ("", "0")


if __name__ == "__main__":
    main()
