"""The processor time of one job, process by process: `python -m bench.stages [JOBS] [TASK]`.

Each duty has a separate connection to PostgreSQL, so the time of its server process is the time of one stage. The
lower limit of that stage (`bench.lower_limits`) is measured in the same run, in alternating passes.
"""

from __future__ import annotations

import re
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

import psycopg
from rich.console import Console
from rich.table import Table

from bench import lower_limits
from bench.machine import nanoseconds, process_tree
from bench.rig import Rig, RunningProcess, rig, until
from bench.submits import submit_batches

WARM, PASSES = 20_000, 3
#: Processes with fewer µs a job are not shown.
LEAST = 0.05
BACKENDS = "SELECT pid, application_name, backend_type FROM pg_stat_activity WHERE pid <> pg_backend_pid()"


def processes(cluster: Rig, scheduler: RunningProcess, worker: RunningProcess) -> dict[int, str]:
    """Return the name of every process that has a part in a job, by its id."""
    names = {scheduler.popen.pid: "scheduler", worker.popen.pid: "worker"}
    for pid in process_tree(worker.popen.pid)[1:]:
        executor = "executor" in Path(f"/proc/{pid}/cmdline").read_text()
        names[pid] = "executor" if executor else "guard"
    for name, server in (("Redis", cluster.servers.redis), ("etcd", cluster.servers.etcd)):
        assert server.child.pid is not None
        names[server.child.pid] = name
    with psycopg.connect(cluster.dsn) as connection:
        for pid, application, kind in connection.execute(BACKENDS).fetchall():
            duty = re.match(r"taskd:([a-z]+)", application or "")
            names[pid] = f"PostgreSQL, {duty.group(1) if duty else kind}"
    return names


def cpu_times(pids: dict[int, str]) -> dict[str, int]:
    """Return the nanoseconds of processor time so far, by name."""
    totals: dict[str, int] = {}
    for pid, name in pids.items():
        totals[name] = totals.get(name, 0) + nanoseconds(pid)
    return totals


def all_finished(cluster: Rig, target: int) -> bool:
    """Return True if at least `target` jobs have ended."""
    return cluster.finished() >= target


def measure(cluster: Rig, scheduler: RunningProcess, worker: RunningProcess, jobs: int, task: str) -> dict[str, float]:
    """Return µs of processor time a job, by name, while jobs are submitted and run."""
    target = cluster.finished() + jobs
    pids = processes(cluster, scheduler, worker)
    before = cpu_times(pids)
    submit_batches(scheduler, jobs, task)
    until(partial(all_finished, cluster, target))
    after = cpu_times(pids)
    return {name: (after[name] - before[name]) / jobs / 1000 for name in after}


def medians(passes: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each name."""
    return {name: statistics.median(figures.get(name, 0.0) for figures in passes) for name in passes[0]}


def main() -> None:
    """Measure and print."""
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 60_000
    task = sys.argv[2] if len(sys.argv) > 2 else "noop"
    used, limits = [], []
    with tempfile.TemporaryDirectory(prefix="taskd-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL's own user must get through
        with rig(folder) as cluster:
            scheduler, worker = cluster.scheduler(), cluster.worker(500)
            measure(cluster, scheduler, worker, WARM, task)
            for _ in range(PASSES):
                used.append(measure(cluster, scheduler, worker, jobs, task))
                limits.append(lower_limits.measure(cluster, WARM))
    show(
        f"{jobs:,} jobs of {task}, submitted while they ran; medians of {PASSES} passes", medians(used), medians(limits)
    )


def show(title: str, used: dict[str, float], limits: dict[str, float]) -> None:
    """Print the processor time of each process, beside its lower limit."""
    table = Table("process", "µs of processor time a job", "lower limit, µs", title=title)
    for name, micros in sorted(used.items(), key=lambda item: -item[1]):
        if micros >= LEAST:
            table.add_row(name, f"{micros:.1f}", f"{limits[name]:.1f}" if name in limits else "")
    table.add_section()
    table.add_row("all", f"{sum(used.values()):.1f}", f"{sum(limits.get(name, 0.0) for name in used):.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
