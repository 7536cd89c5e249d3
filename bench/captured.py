"""What it costs that a task's output is kept: `python -m bench.captured [JOBS [ROUNDS]]`.

The processor time of all processes for one job. Each round has one turn of each kind: a task that does nothing; one that prints
a line, whose worker keeps nothing; and the same with a worker that keeps it. The medians of the rounds count.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from bench.rig import Rig, Role, batch, post, rig, until
from bench.stages import processes, spent

KEPT, DROPPED = "default", "dropped"
#: Name, task, queue.
TURNS = (("nothing", "noop", KEPT), ("a line, not kept", "prints", DROPPED), ("a line, kept", "prints", KEPT))
WARM = 5_000


@contextmanager
def settings(**values: str) -> Iterator[None]:
    """For a process that is started meanwhile."""
    names = {f"TASKD_WORKER__{name.upper()}": value for name, value in values.items()}
    os.environ.update(names)
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]


def _over(cluster: Rig, target: int) -> bool:
    return cluster.finished() >= target


def turn(cluster: Rig, scheduler: Role, workers: list[Role], jobs: int, task: str, queue: str) -> tuple[float, float]:
    """(microseconds of processor time a job, jobs/s)."""
    target = cluster.finished() + jobs
    pids = {pid: name for worker in workers for pid, name in processes(cluster, scheduler, worker).items()}
    before, began = spent(pids), time.monotonic()
    with httpx.Client(timeout=60) as client:
        for _ in range(jobs // 1000):
            post(client, f"{scheduler.url}/jobs/batch", batch(task, {}, queue=queue))
    until(partial(_over, cluster, target))
    time.sleep(0.5)  # what is told and written a moment later belongs to it
    after = spent(pids)
    used = sum(after.values()) - sum(before.values())
    return used / jobs / 1000, jobs / (time.monotonic() - began)


def main() -> None:
    """Measure and print."""
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    found: dict[str, list[float]] = {name: [] for name, *_ in TURNS}
    with tempfile.TemporaryDirectory(prefix="taskd-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL's own user must get through
        with rig(folder) as cluster:
            scheduler = cluster.scheduler()
            workers = [cluster.worker(500)]
            with settings(max_log_bytes="0", queues=DROPPED):
                workers.append(cluster.worker(500))
            for number in range(-1, rounds):
                for what, task, queue in TURNS:
                    used, rate = turn(cluster, scheduler, workers, WARM if number < 0 else jobs, task, queue)
                    if number >= 0:
                        found[what].append(used)
                        Console().print(f"round {number + 1}: {what}: {used:.1f} µs, {rate:,.0f}/s", highlight=False)
    medians = {what: statistics.median(values) for what, values in found.items()}
    table = Table("task", "µs a job", "to nothing", title=f"{rounds} rounds of {jobs:,} jobs each, medians")
    for what, median in medians.items():
        table.add_row(what, f"{median:.1f}", f"{median / medians['nothing'] - 1:+.1%}")
    Console().print(table)
    kept, dropped = medians["a line, kept"], medians["a line, not kept"]
    Console().print(f"keeping costs {kept / dropped - 1:+.1%} of a job that prints", highlight=False)


if __name__ == "__main__":
    main()
