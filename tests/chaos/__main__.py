"""Run the fault catalogue: `make chaos`, or `python -m tests.chaos`.

Environment variables: SEED, SCENARIO (numbers or names, separated by commas), MINUTES (of the random mix), SHARDS,
OUT.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
from pathlib import Path

from rich.console import Console

from tests.chaos.catalogue import select
from tests.chaos.run import run, summary
from tests.chaos.table import complaints, table, verdict
from tests.servers import temporary_folder

OUT = Path("build/chaos")


def main() -> int:
    """Run the selected scenarios; return 0 if every row passed."""
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1, 10**6))
    scenarios = select(os.environ.get("SCENARIO", ""), minutes=float(os.environ.get("MINUTES") or 2))
    out = Path(os.environ.get("OUT") or OUT) / f"seed-{seed}"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(f"fault catalogue: seed {seed}, {len(scenarios)} scenarios; failures leave their history in {out}")
    began, rows = time.monotonic(), []
    with temporary_folder() as folder:
        for scenario in scenarios:
            console.print(f"  {scenario.name:>3}  {scenario.title} …", end="", highlight=False)
            row = run(scenario, seed, folder / f"scenario-{scenario.name}")
            rows.append(row)
            console.print(f" {verdict(row)} ({row.seconds:.0f} s)", highlight=False)
            for line in complaints(row):
                console.print(f"       {line}", highlight=False, markup=False)
            if not row.passed:
                keep(folder / f"scenario-{scenario.name}", out / f"scenario-{scenario.name}")
            shutil.rmtree(folder / f"scenario-{scenario.name}", ignore_errors=True)
            (out / "results.json").write_text(json.dumps([summary(r) for r in rows], indent=1))
    console.print(table(rows))
    passed = sum(row.passed and not row.left_out for row in rows)
    left_out = sum(1 for row in rows if row.left_out)
    failed = len(rows) - passed - left_out
    console.print(
        f"seed {seed}: {passed} passed, {failed} failed, {left_out} left out, in {(time.monotonic() - began) / 60:.1f} min"
    )
    return 1 if failed else 0


def keep(source: Path, target: Path) -> None:
    """Copy the history and the logs of a failed scenario to `target`."""
    for part in ("history", "logs", "error.txt"):
        if (source / part).is_dir():
            shutil.copytree(source / part, target / part)
        elif (source / part).exists():
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / part, target / part)


if __name__ == "__main__":
    sys.exit(main())
