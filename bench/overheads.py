"""The cost of a context, typed arguments and dependencies for a job: `python -m bench.overheads [ROUNDS [JOBS]]`.

Each round runs the same number of jobs of every task, one task after another. It reads the processor time of all
processes of the cluster before and after. The table has the median of the rounds. Processor time is steadier than a
rate. The steadiest figure is measured inside this process: the time to prepare and run an order's call, in which alone
these tasks differ. With 0 rounds only that is measured.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from bench.rig import Rig, RunningProcess, rig, until
from bench.stages import all_finished, cpu_times, processes
from bench.submits import submit_batches
from bench.typed_tasks import app
from taskd.domain.job import JobInfo
from taskd.seams import Link, Order

PAYLOAD = {"box": {"width": 100, "name": "a box"}}
TASKS: dict[str, object] = {
    "bare": {},
    "context": {},
    "untyped": PAYLOAD,
    "with_dataclass": PAYLOAD,
    "with_struct": PAYLOAD,
    "with_model": PAYLOAD,
    "with_pool": {},
    "with_session": {},
}


def measured(
    cluster: Rig, scheduler: RunningProcess, worker: RunningProcess, task: str, jobs: int
) -> tuple[float, float]:
    """Return µs of processor time a job: of its executor, and of all processes."""
    pids = processes(cluster, scheduler, worker)
    target = cluster.finished() + jobs
    before = cpu_times(pids)
    submit_batches(scheduler, jobs, task, TASKS[task])
    until(partial(all_finished, cluster, target), timeout=600)
    after = cpu_times(pids)
    used = {name: (after[name] - before[name]) / jobs / 1000 for name in after}
    return used["executor"], sum(used.values())


async def inside(rounds: int = 7, calls: int = 5_000) -> dict[str, float]:
    """Return µs of processor time for one call: the median of interleaved rounds."""
    now = datetime.now(UTC)
    times: dict[str, list[float]] = {task: [] for task in TASKS}
    await app.start()
    for _ in range(rounds):
        for task, payload in TASKS.items():
            job = JobInfo(1, task, "default", 0, msgspec.json.encode(payload), now, now, None, {}, 3, 0, "bench")
            order = Order(job, 1)
            began = time.process_time()
            for _ in range(calls):
                await app.prepare(order, _no_link)()
            times[task].append((time.process_time() - began) / calls * 1e6)
    await app.stop()
    return {task: statistics.median(rounds) for task, rounds in times.items()}


def _no_link() -> Link:
    raise NotImplementedError  # these tasks have no output


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    jobs = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    calls = asyncio.run(inside())
    if rounds == 0:
        Console().print({task: round(micros, 1) for task, micros in calls.items()})
        return
    times: dict[str, list[tuple[float, float]]] = {task: [] for task in TASKS}
    with tempfile.TemporaryDirectory(prefix="taskd-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL's own user must get through
        with rig(folder) as cluster:
            scheduler, worker = cluster.scheduler(), cluster.worker(500, app="bench.typed_tasks")
            measured(cluster, scheduler, worker, "bare", jobs)
            tasks = list(TASKS)
            for number in range(rounds):
                first = number % len(tasks)  # a turn also does PostgreSQL's remaining work of earlier turns
                for task in tasks[first:] + tasks[:first]:
                    times[task].append(measured(cluster, scheduler, worker, task, jobs))
    _print(times, calls, f"{rounds} rounds of {jobs:,} jobs of each task, interleaved: medians")


def _print(times: dict[str, list[tuple[float, float]]], calls: dict[str, float], title: str) -> None:
    table = Table("task", "call, µs", "executor, µs a job", "all, µs a job", "of bare", "each round", title=title)
    for task, rounds in times.items():
        executor, total = (statistics.median(column) for column in zip(*rounds, strict=True))
        ratios = [used[1] / bare[1] for used, bare in zip(rounds, times["bare"], strict=True)]
        each = " ".join(f"{ratio:.2f}" for ratio in ratios)
        table.add_row(
            task, f"{calls[task]:.1f}", f"{executor:.1f}", f"{total:.1f}", f"{statistics.median(ratios):.2f}", each
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
