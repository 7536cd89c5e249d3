"""The cost of a long history and a long backlog: the same figures with little and with much in the tables."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import httpx
import psycopg

from bench.job_times import Figures, percentile
from bench.machine import resident
from bench.rig import Rig, RunningProcess, until
from bench.submits import submit_batches

FINISHED, PENDING = 10_000_000, 1_000_000
#: The first id above those of the benchmark's jobs.
FIRST = 10**12

HISTORY = """
INSERT INTO taskd.finished_jobs (
    id, status, task, queue, priority, attempt, worker_id, failures, crashes, losses, max_retries, backoff, created_at,
    schedule_at, queued_at, started_at, completed_at, outcome, payload, result)
SELECT %s + n, 'completed', 'noop', 'default', 0, 1, 'worker-1', 0, 0, 0, 3, '{}', now(), now(), now(), now(), now(),
       'completed', '{"sent": 0}', 'null'
FROM generate_series(1, %s) n
"""
BACKLOG = """
INSERT INTO taskd.jobs (id, task, queue, priority, max_retries, backoff, created_at, schedule_at, payload)
SELECT %s + n, 'noop', 'default', 0, 3, '{}', now(), now() + interval '1 day', '{"sent": 0}' FROM generate_series(1, %s) n
"""


def measure(cluster: Rig, scheduler: RunningProcess, report_progress: Callable[[str], None]) -> Figures:
    """Return the rate compared with the empty tables, and the times of reads."""
    worker = cluster.worker(500)
    report_progress("taskd: rate with empty tables")
    empty = median(_rate(cluster, scheduler, 60_000) for _ in range(3))
    redis = cluster.servers.redis.child.pid or 0
    megabytes = resident(redis)
    report_progress(f"taskd: making {FINISHED:,} finished and {PENDING:,} pending jobs")
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        for statement, first, rows in ((HISTORY, FIRST, FINISHED), (BACKLOG, FIRST + FINISHED, PENDING)):
            connection.execute(statement.encode(), [first, rows])
        connection.execute("VACUUM ANALYZE taskd.finished_jobs, taskd.jobs")
        connection.execute("CHECKPOINT")  # their remaining writes must not affect the next measurement
    report_progress("taskd: rate with full tables")
    full = median(_rate(cluster, scheduler, 60_000) for _ in range(3))
    growth = resident(redis) - megabytes
    figures = {"full tables, of the empty tables' rate": full / empty, "full tables, Redis, MB more": growth}
    for name, path in (
        ("/metrics", "/metrics"),
        ("a job", f"/jobs/{FIRST + FINISHED // 2}"),
        ("the first page of jobs", "/jobs"),
    ):
        times = _times(f"{scheduler.url}{path}", 300)
        figures |= {f"full tables, {name} p{percent}, ms": percentile(times, percent) for percent in (50, 99)}
    worker.stop()
    return figures


def _rate(cluster: Rig, scheduler: RunningProcess, jobs: int) -> float:
    target, began = cluster.finished() + jobs, time.perf_counter()
    submit_batches(scheduler, jobs, "noop")
    until(lambda: cluster.finished() >= target)
    return jobs / (time.perf_counter() - began)


def _times(url: str, times: int) -> list[float]:
    """Return the sorted milliseconds of repeated reads."""
    reads = []
    with httpx.Client(timeout=60) as client:
        client.get(url).raise_for_status()
        for _ in range(times):
            began = time.perf_counter()
            client.get(url).raise_for_status()
            reads.append((time.perf_counter() - began) * 1e3)
            time.sleep(0.05)
    return sorted(reads)
