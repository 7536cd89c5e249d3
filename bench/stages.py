"""Where the processor time of one job goes, process by process: `python -m bench.stages [JOBS] [TASK]`.

Each duty has a connection to PostgreSQL of its own, so the time of the server process behind it is the time of one stage.
"""

from __future__ import annotations

import re
import sys
import tempfile
from functools import partial
from pathlib import Path

import psycopg
from rich.console import Console
from rich.table import Table

from bench.machine import family, nanoseconds
from bench.rig import Rig, Role, rig, until
from bench.submits import submit_batches

WARM = 20_000
BACKENDS = "SELECT pid, application_name, backend_type FROM pg_stat_activity WHERE pid <> pg_backend_pid()"


def processes(cluster: Rig, scheduler: Role, worker: Role) -> dict[int, str]:
    """Every process that has a part in a job, by its id."""
    found = {scheduler.popen.pid: "scheduler", worker.popen.pid: "worker"}
    for pid in family(worker.popen.pid)[1:]:
        executor = "executor" in Path(f"/proc/{pid}/cmdline").read_text()
        found[pid] = "executor" if executor else "guard"
    for name, server in (("Redis", cluster.servers.redis), ("etcd", cluster.servers.etcd)):
        assert server.child.pid is not None
        found[server.child.pid] = name
    with psycopg.connect(cluster.dsn) as connection:
        for pid, application, kind in connection.execute(BACKENDS).fetchall():
            duty = re.match(r"taskd:([a-z]+)", application or "")
            found[pid] = f"PostgreSQL, {duty.group(1) if duty else kind}"
    return found


def spent(pids: dict[int, str]) -> dict[str, int]:
    """Nanoseconds of processor time so far, by name."""
    found: dict[str, int] = {}
    for pid, name in pids.items():
        found[name] = found.get(name, 0) + nanoseconds(pid)
    return found


def over(cluster: Rig, target: int) -> bool:
    """Whether so many jobs have ended."""
    return cluster.finished() >= target


def main() -> None:
    """Measure and print."""
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 60_000
    task = sys.argv[2] if len(sys.argv) > 2 else "noop"
    with tempfile.TemporaryDirectory(prefix="taskd-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL's own user must get through
        with rig(folder) as cluster:
            scheduler, worker = cluster.scheduler(), cluster.worker(500)
            for count in (WARM, jobs):
                target = cluster.finished() + count
                pids = processes(cluster, scheduler, worker)
                before = spent(pids)
                rate = submit_batches(scheduler, count, task)
                until(partial(over, cluster, target))
                after = spent(pids)
    table = Table(
        "process",
        "µs of processor time a job",
        title=f"{jobs:,} jobs of {task}, submitted at {rate:,.0f}/s while they ran",
    )
    used = {name: (after[name] - before[name]) / jobs / 1000 for name in after}
    for name, micros in sorted(used.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{micros:.1f}")
    table.add_section()
    table.add_row("all", f"{sum(used.values()):.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
