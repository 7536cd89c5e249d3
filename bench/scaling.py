"""The rates of several workers."""

from __future__ import annotations

import time

import httpx

from bench.job_times import Figures, settled
from bench.machine import nanoseconds
from bench.rig import Rig, RunningProcess, batch, post, until
from bench.submits import submit_batches


def scaling(cluster: Rig, scheduler: RunningProcess, jobs: int) -> Figures:
    """Return the rate of several workers as a multiple of one worker's, and the cores that all use.

    Each has 8 slots and runs jobs of 20 ms. The target ends where a core is full: the largest number of workers that
    need less counts.
    """
    rates = {workers: _rate_of(cluster, scheduler, workers, jobs) for workers in (1, 2, 4, 8)}
    figures: Figures = {}
    for workers, (rate, cores) in rates.items():
        if workers > 1:
            share_of = rate / (workers * rates[1][0])
            figures |= {f"{workers} workers, of {workers} times one": share_of, f"{workers} workers, cores used": cores}
            if cores < 1 or workers == 2:
                figures["workers until a core is full, of linear"] = share_of
    return figures


def _rate_of(cluster: Rig, scheduler: RunningProcess, workers: int, jobs: int) -> tuple[float, float]:
    """Return jobs/s, and the cores used by all processes but the client. All workers run before the count begins."""
    roles = [cluster.worker(8) for _ in range(workers)]
    until(lambda: cluster.registered == workers)
    submit_batches(scheduler, 1000 * workers, "nap", {"seconds": 0.02})
    settled(cluster)
    pids = cluster.process_tree
    used = sum(nanoseconds(pid) for pid in pids)
    before, expected = cluster.finished(), jobs * workers // 1000 * 1000
    body = batch("nap", {"seconds": 0.02})
    began = time.perf_counter()
    with httpx.Client(timeout=60) as client:
        for _ in range(expected // 1000):
            post(client, f"{scheduler.url}/jobs/batch", body)
    until(lambda: cluster.finished() - before >= expected)
    seconds = time.perf_counter() - began
    used = sum(nanoseconds(pid) for pid in pids) - used
    for role in roles:
        role.stop()
    return expected / seconds, used / 1e9 / seconds
