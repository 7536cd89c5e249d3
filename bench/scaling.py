"""What several workers reach."""

from __future__ import annotations

import time

import httpx

from bench.machine import nanoseconds
from bench.moments import Figures, settled
from bench.rig import Rig, Role, batch, post, until
from bench.submits import submit_batches


def scaling(cluster: Rig, scheduler: Role, jobs: int) -> Figures:
    """What several workers of 8 slots reach with 20 ms jobs, of as many times what one reaches, and how much of the machine
    they all use for it. The target ends where a core is full: what counts is the most workers that need less."""
    rates = {workers: _rate_of(cluster, scheduler, workers, jobs) for workers in (1, 2, 4, 8)}
    found: Figures = {}
    for workers, (rate, cores) in rates.items():
        if workers > 1:
            share_of = rate / (workers * rates[1][0])
            found |= {f"{workers} workers, of {workers} times one": share_of, f"{workers} workers, cores used": cores}
            if cores < 1 or workers == 2:
                found["workers until a core is full, of linear"] = share_of
    return found


def _rate_of(cluster: Rig, scheduler: Role, workers: int, jobs: int) -> tuple[float, float]:
    """(jobs/s, cores used by everything but the client). All workers work already when the count begins."""
    roles = [cluster.worker(8) for _ in range(workers)]
    until(lambda: cluster.registered == workers)
    submit_batches(scheduler, 1000 * workers, "nap", {"seconds": 0.02})
    settled(cluster)
    pids = cluster.family
    used = sum(nanoseconds(pid) for pid in pids)
    before, wanted = cluster.finished(), jobs * workers // 1000 * 1000
    body = batch("nap", {"seconds": 0.02})
    began = time.perf_counter()
    with httpx.Client(timeout=60) as client:
        for _ in range(wanted // 1000):
            post(client, f"{scheduler.url}/jobs/batch", body)
    until(lambda: cluster.finished() - before >= wanted)
    seconds = time.perf_counter() - began
    used = sum(nanoseconds(pid) for pid in pids) - used
    for role in roles:
        role.stop()
    return wanted / seconds, used / 1e9 / seconds
