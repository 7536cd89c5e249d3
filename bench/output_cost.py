"""The cost of storing a task's output: `python -m bench.output_cost [JOBS [ROUNDS]]`.

It measures the processor time of all processes for one job. Each round measures three kinds once: a task that does
nothing; a task that prints a line, with a worker that stores no output; and the same with a worker that stores it. The
result is the median of the rounds.
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

from bench.rig import Rig, RunningProcess, batch, post, rig, until
from bench.stages import all_finished, cpu_times, processes

#: A queue for each kind, since a queue's cost includes that of its earlier rows.
NOTHING, STORED, DROPPED = "nothing", "stored", "dropped"
#: Name, task, queue.
TURNS = (("nothing", "noop", NOTHING), ("a line, not stored", "prints", DROPPED), ("a line, stored", "prints", STORED))
WARM = 5_000
#: Processes with fewer microseconds are not shown.
LEAST = 0.5


@contextmanager
def settings(**values: str) -> Iterator[None]:
    """Set worker settings for the processes that are started in the block."""
    names = {f"TASKD_WORKER__{name.upper()}": value for name, value in values.items()}
    os.environ.update(names)
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]


CpuTimes = dict[str, float]


def turn(
    cluster: Rig, scheduler: RunningProcess, workers: list[RunningProcess], jobs: int, task: str, queue: str
) -> tuple[float, CpuTimes]:
    """Return jobs/s, and microseconds of processor time a job by process."""
    target = cluster.finished() + jobs
    pids = {pid: name for worker in workers for pid, name in processes(cluster, scheduler, worker).items()}
    before, began = cpu_times(pids), time.monotonic()
    with httpx.Client(timeout=60) as client:
        for _ in range(jobs // 1000):
            post(client, f"{scheduler.url}/jobs/batch", batch(task, {}, queue=queue))
    until(partial(all_finished, cluster, target))
    rate = jobs / (time.monotonic() - began)
    time.sleep(0.5)  # delayed messages and writes belong to the measurement
    after = cpu_times(pids)
    return rate, {name: (after[name] - before[name]) / jobs / 1000 for name in after}


def main() -> None:
    """Measure and print."""
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    rates: dict[str, list[float]] = {name: [] for name, *_ in TURNS}
    times: dict[str, list[CpuTimes]] = {name: [] for name, *_ in TURNS}
    with tempfile.TemporaryDirectory(prefix="taskd-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL's own user must get through
        with rig(folder) as cluster:
            scheduler = cluster.scheduler()
            with settings(queues=f"{NOTHING},{STORED}"):
                workers = [cluster.worker(500)]
            with settings(max_log_bytes="0", queues=DROPPED):
                workers.append(cluster.worker(500))
            for number in range(-1, rounds):
                first = number % len(TURNS)  # a turn also does PostgreSQL's remaining work of the turn before
                for kind, task, queue in TURNS[first:] + TURNS[:first]:
                    rate, used = turn(cluster, scheduler, workers, WARM if number < 0 else jobs, task, queue)
                    if number >= 0:
                        rates[kind].append(rate)
                        times[kind].append(used)
                        total = sum(used.values())
                        Console().print(f"round {number + 1}: {kind}: {total:.1f} µs, {rate:,.0f}/s", highlight=False)
    table = Table("process, µs a job", *times, title=f"{rounds} rounds of {jobs:,} jobs each, medians")
    for process in sorted(times["nothing"][0]):
        medians = [statistics.median(used[process] for used in rounds_of) for rounds_of in times.values()]
        if max(medians) >= LEAST:
            table.add_row(process, *(f"{median:.1f}" for median in medians))
    totals = {kind: [sum(used.values()) for used in rounds_of] for kind, rounds_of in times.items()}
    table.add_section()
    table.add_row("all", *(f"{statistics.median(total):.1f}" for total in totals.values()))
    table.add_row("jobs/s", *(f"{statistics.median(rate):,.0f}" for rate in rates.values()))
    Console().print(table)
    for kind, figures in (("processor time", totals), ("jobs/s", rates)):
        stored, dropped = figures["a line, stored"], figures["a line, not stored"]
        ratios = sorted(one / other - 1 for one, other in zip(stored, dropped, strict=True))
        text = f"storing a line, {kind}: {statistics.median(ratios):+.1%} ({ratios[0]:+.1%} to {ratios[-1]:+.1%})"
        Console().print(text, highlight=False)


if __name__ == "__main__":
    main()
