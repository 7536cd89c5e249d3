"""The waiting times of taskd's jobs: on an idle cluster, on a busy one, and on an overloaded one."""

from __future__ import annotations

import re
import statistics
import time

import httpx
import psycopg

from bench.http_load import submit_one_by_one, submit_steadily
from bench.job_times import Figures, between, last_id, percentile, settled
from bench.rig import Rig, RunningProcess, batch, post
from bench.submits import submit_batches

#: For each urgent job: milliseconds until it started, and how many less urgent ones started in that time.
URGENT = """
SELECT extract(epoch FROM u.started_at - u.created_at)::float8 * 1000,
       (SELECT count(*) FROM taskd.finished_jobs o
        WHERE o.priority < u.priority AND o.started_at BETWEEN u.created_at AND u.started_at)
FROM taskd.finished_jobs u WHERE u.id = ANY(%s)
"""


def idle(cluster: Rig, scheduler: RunningProcess, jobs: int) -> Figures:
    """Return latencies of an idle cluster, one job after another."""
    after, response_times = last_id(cluster), []
    with httpx.Client(timeout=60) as client:
        for _ in range(jobs):
            began = time.perf_counter()
            job = client.post(f"{scheduler.url}/jobs", json={"task": "noop", "payload": {}}).json()
            client.get(f"{scheduler.url}/jobs/{job['id']}?wait=10").raise_for_status()
            response_times.append((time.perf_counter() - began) * 1e3)
    starts, response_times = between(cluster, after, "created_at", "started_at"), sorted(response_times)
    return {
        f"idle, submit to {what} p{percent}, ms": percentile(times, percent)
        for what, times in (("start", starts), ("seen completed", response_times))
        for percent in (50, 99)
    }


def delayed(cluster: Rig, scheduler: RunningProcess, jobs: int) -> Figures:
    """Return how late delayed jobs are dispatched."""
    after = last_id(cluster)
    with httpx.Client(timeout=60) as client:
        for number in range(jobs):
            body = {"task": "noop", "payload": {}, "delay": 1 + 2 * number / jobs}
            client.post(f"{scheduler.url}/jobs", json=body).raise_for_status()
    settled(cluster)
    lags = between(cluster, after, "schedule_at", "queued_at")
    return {f"dispatch lag of a delayed job p{percent}, ms": percentile(lags, percent) for percent in (50, 99)}


def busy(cluster: Rig, scheduler: RunningProcess, full_rate: float, seconds: float) -> Figures:
    """Return the times from submit to start at half of the highest rate.

    One load has jobs that arrive a hundred at a time (`full_rate` is the rate end to end, in jobs/s). The other has jobs
    that arrive one at a time; their highest rate is lower and is measured first.
    """
    submit_batches(scheduler, 2000, "noop")  # so that the new worker is warm
    settled(cluster)
    singles = _sustained(cluster, scheduler, seconds)
    figures = {"one by one, end to end, jobs/s": singles}
    for name, rate, jobs in (("half load", full_rate / 2, 100), ("half load, one by one", singles / 2, 1)):
        after = last_id(cluster)
        submit_steadily(scheduler.url, 100, rate, seconds, jobs)
        settled(cluster)
        starts = between(cluster, after, "created_at", "started_at")
        figures |= {f"{name}, submit to start p{percent}, ms": percentile(starts, percent) for percent in (50, 99)}
    return figures


def _sustained(cluster: Rig, scheduler: RunningProcess, seconds: float) -> float:
    """Return jobs/s that are submitted one by one and run, until the last of them has ended."""
    before, began = cluster.finished(), time.perf_counter()
    submit_one_by_one(scheduler.url, 100, seconds)
    settled(cluster)
    return (cluster.finished() - before) / (time.perf_counter() - began)


#: The figure is an upper bound, since a histogram has only the bounds of its buckets.
DISPATCH = "under 200 clients, dispatch p99, upper bound of its bucket, ms"


def saturated(cluster: Rig, scheduler: RunningProcess, seconds: float) -> Figures:
    """Return the duration of dispatches, and lost terms, while 200 clients submit as fast as they can."""
    before, epoch = _dispatches(scheduler), _epoch(scheduler)
    submit_one_by_one(scheduler.url, 200, seconds)
    counts = {bound: count - before.get(bound, 0.0) for bound, count in _dispatches(scheduler).items()}
    term_kept = _epoch(scheduler) == epoch
    settled(cluster)
    rank = 0.99 * max(counts.values())
    p99 = min(bound for bound, count in counts.items() if count >= rank)
    return {DISPATCH: p99 * 1e3, "under 200 clients, terms lost": float(not term_kept)}


def _dispatches(scheduler: RunningProcess) -> dict[float, float]:
    """Return how many dispatches took at most so many seconds, by that bound."""
    text = httpx.get(f"{scheduler.url}/metrics", headers={"accept": "text/plain"}).text
    buckets = re.findall(r'^taskd_dispatch_seconds_bucket\{le="([^"]+)"\} (\S+)$', text, re.MULTILINE)
    return {float(bound): float(count) for bound, count in buckets}


def _epoch(scheduler: RunningProcess) -> int:
    return int(httpx.get(f"{scheduler.url}/leader").json()["epoch"])


def urgent(cluster: Rig, scheduler: RunningProcess, backlog: int, probes: int) -> Figures:
    """Return the time until an urgent job starts while 8 slots work through a backlog of 50 ms jobs."""
    worker = cluster.worker(8)
    with httpx.Client(timeout=60) as client:
        for _ in range(backlog // 1000):
            post(client, f"{scheduler.url}/jobs/batch", batch("nap", {"seconds": 0.05}, priority=1))
        ids = []
        for _ in range(probes):
            body = {"task": "noop", "payload": {}, "priority": 90}
            ids.append(client.post(f"{scheduler.url}/jobs", json=body).json()["id"])
            client.get(f"{scheduler.url}/jobs/{ids[-1]}?wait=30").raise_for_status()
    worker.popen.kill()
    worker.popen.wait()
    with psycopg.connect(cluster.dsn) as connection:
        rows = connection.execute(URGENT, [ids]).fetchall()
    cluster.empty()  # the rest of the backlog would take minutes
    starts, overtaken = sorted(float(row[0]) for row in rows), max(int(row[1]) for row in rows)
    name = "urgent job behind a backlog"
    return {
        f"{name}, start, ms (median)": statistics.median(starts),
        f"{name}, start, ms (max)": starts[-1],
        f"{name}, overtaken by (max)": float(overtaken),
    }
