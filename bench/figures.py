"""What taskd itself reaches: rates, latencies, and what it costs."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Sequence

import httpx
import psycopg

from bench.http_load import submit_one_by_one, submit_steadily
from bench.machine import family, nanoseconds, resident
from bench.rig import Rig, Role, batch, post, until
from bench.submits import submit_at_once, submit_batches, submit_from_python, submit_in_sql

Figures = dict[str, float]

#: Milliseconds from one moment of finished jobs to another, by PostgreSQL's clock.
MOMENTS = """
SELECT extract(epoch FROM {over} - {start})::float8 * 1000 FROM taskd.finished_jobs WHERE id > %s AND started_at IS NOT NULL
"""
#: Of urgent jobs: milliseconds until they started, and how many less urgent ones started in that time.
URGENT = """
SELECT extract(epoch FROM u.started_at - u.created_at)::float8 * 1000,
       (SELECT count(*) FROM taskd.finished_jobs o
        WHERE o.priority < u.priority AND o.started_at BETWEEN u.created_at AND u.started_at)
FROM taskd.finished_jobs u WHERE u.id = ANY(%s)
"""


def share(found: Sequence[float], percent: int) -> float:
    """The percentile of sorted figures."""
    return found[min(len(found) - 1, len(found) * percent // 100)]


def between(cluster: Rig, after: int, start: str, over: str) -> list[float]:
    """Sorted milliseconds between two moments of the jobs with ids above `after`."""
    with psycopg.connect(cluster.dsn) as connection:
        rows = connection.execute(MOMENTS.format(start=start, over=over).encode(), [after]).fetchall()
    return sorted(float(row[0]) for row in rows)


def last_id(cluster: Rig) -> int:
    """The highest id that was given so far."""
    with psycopg.connect(cluster.dsn) as connection:
        row = connection.execute("SELECT last_value FROM taskd.job_ids").fetchone()
    assert row is not None
    return int(row[0])


def settled(cluster: Rig) -> None:
    """Wait until there is nothing left to do."""
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        until(lambda: connection.execute("SELECT 1 FROM taskd.jobs LIMIT 1").fetchone() is None)


def drain(cluster: Rig, scheduler: Role, jobs: int, task: str) -> tuple[float, float]:
    """(jobs/s of the batches that submit them, jobs/s from a worker's start to the last completion)."""
    before = cluster.finished()
    submitted = submit_batches(scheduler, jobs, task)
    worker = cluster.worker(500)
    began = time.perf_counter()
    until(lambda: cluster.finished() - before >= jobs)
    rate = jobs / (time.perf_counter() - began)
    worker.stop()
    return submitted, rate


def idle(cluster: Rig, scheduler: Role, jobs: int) -> Figures:
    """Latencies of an idle cluster: one job after another."""
    after, seen = last_id(cluster), []
    with httpx.Client(timeout=60) as client:
        for _ in range(jobs):
            began = time.perf_counter()
            job = client.post(f"{scheduler.url}/jobs", json={"task": "noop", "payload": {}}).json()
            client.get(f"{scheduler.url}/jobs/{job['id']}?wait=10").raise_for_status()
            seen.append((time.perf_counter() - began) * 1e3)
    starts, seen = between(cluster, after, "created_at", "started_at"), sorted(seen)
    return {
        f"idle, submit to {what} p{percent}, ms": share(found, percent)
        for what, found in (("start", starts), ("seen completed", seen))
        for percent in (50, 99)
    }


def delayed(cluster: Rig, scheduler: Role, jobs: int) -> Figures:
    """How late jobs are dispatched that wait for a time of their own."""
    after = last_id(cluster)
    with httpx.Client(timeout=60) as client:
        for number in range(jobs):
            body = {"task": "noop", "payload": {}, "delay": 1 + 2 * number / jobs}
            client.post(f"{scheduler.url}/jobs", json=body).raise_for_status()
    settled(cluster)
    lags = between(cluster, after, "schedule_at", "queued_at")
    return {f"dispatch lag of a delayed job p{percent}, ms": share(lags, percent) for percent in (50, 99)}


def busy(cluster: Rig, scheduler: Role, whole: float, seconds: float) -> Figures:
    """Submit to start at half of what gets through, for jobs that come a hundred at a time (`whole` is the rate end to end,
    in jobs/s) and for jobs that come one at a time, of which fewer get through: that is measured first."""
    submit_batches(scheduler, 2000, "noop")  # the worker was just started: now it works
    settled(cluster)
    singles = _sustained(cluster, scheduler, seconds)
    found = {"one by one, end to end, jobs/s": singles}
    for name, rate, jobs in (("half load", whole / 2, 100), ("half load, one by one", singles / 2, 1)):
        after = last_id(cluster)
        submit_steadily(scheduler.url, 100, rate, seconds, jobs)
        settled(cluster)
        starts = between(cluster, after, "created_at", "started_at")
        found |= {f"{name}, submit to start p{percent}, ms": share(starts, percent) for percent in (50, 99)}
    return found


def _sustained(cluster: Rig, scheduler: Role, seconds: float) -> float:
    """Jobs/s that are submitted one by one, and run, before the last of them is over."""
    before, began = cluster.finished(), time.perf_counter()
    submit_one_by_one(scheduler.url, 100, seconds)
    settled(cluster)
    return (cluster.finished() - before) / (time.perf_counter() - began)


def saturated(cluster: Rig, scheduler: Role, seconds: float) -> Figures:
    """How long dispatches take while 200 clients submit as fast as they can, and whether the leader kept its term."""
    before, epoch = _dispatches(scheduler), _epoch(scheduler)
    submit_one_by_one(scheduler.url, 200, seconds)
    counts = {bound: count - before.get(bound, 0.0) for bound, count in _dispatches(scheduler).items()}
    kept = _epoch(scheduler) == epoch
    settled(cluster)
    enough = 0.99 * max(counts.values())
    p99 = min(bound for bound, count in counts.items() if count >= enough)
    return {"under 200 clients, dispatch p99, at most ms": p99 * 1e3, "under 200 clients, terms lost": float(not kept)}


def _dispatches(scheduler: Role) -> dict[float, float]:
    """How many dispatches took at most so many seconds."""
    text = httpx.get(f"{scheduler.url}/metrics", headers={"accept": "text/plain"}).text
    found = re.findall(r'^taskd_dispatch_seconds_bucket\{le="([^"]+)"\} (\S+)$', text, re.MULTILINE)
    return {float(bound): float(count) for bound, count in found}


def _epoch(scheduler: Role) -> int:
    return int(httpx.get(f"{scheduler.url}/leader").json()["epoch"])


def urgent(cluster: Rig, scheduler: Role, backlog: int, probes: int) -> Figures:
    """Until an urgent job starts while 8 slots work through a backlog of 50 ms jobs."""
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
    found, overtaken = sorted(float(row[0]) for row in rows), max(int(row[1]) for row in rows)
    name = "urgent job behind a backlog"
    return {
        f"{name}, start, ms (median)": statistics.median(found),
        f"{name}, start, ms (max)": found[-1],
        f"{name}, overtaken by (max)": float(overtaken),
    }


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


def costs(cluster: Rig, scheduler: Role, worker: Role, seconds: float) -> Figures:
    """What a cluster uses that has nothing to do."""
    found = {
        "memory, scheduler, MB": resident(scheduler.popen.pid),
        "memory, worker, MB": resident(worker.popen.pid),
        "memory, executor, MB (max)": max(resident(child) for child in worker.children),
    }
    with (
        cluster.without_autovacuum()
    ):  # its transactions are none of an idle cluster's: what was done before calls for them
        time.sleep(12)  # an idle backend tells of its last transactions only after 10 s
        before = cluster.transactions(), scheduler.cpu, worker.cpu
        time.sleep(seconds)
        after = cluster.transactions(), scheduler.cpu, worker.cpu
    statements, own, its = (b - a for a, b in zip(before, after, strict=True))
    return found | {
        "idle, statements/s": (statements - 1) / seconds,
        "idle, scheduler CPU, % of a core": own / seconds * 100,
        "idle, worker CPU, % of a core": its / seconds * 100,
    }


def crowded(cluster: Rig, scheduler: Role, workers: int, seconds: float) -> float:
    """What that many idle workers cost the scheduler, PostgreSQL and etcd together, in % of a core."""
    servers = cluster.servers.postgres.child.pid, cluster.servers.etcd.child.pid
    with cluster.crowd(workers, 4):
        time.sleep(15)  # all have registered; what their coming has caused ends
        pids = [scheduler.popen.pid, *(member for pid in servers if pid for member in family(pid))]
        before = sum(nanoseconds(pid) for pid in pids)
        time.sleep(seconds)
        return (sum(nanoseconds(pid) for pid in pids) - before) / 1e9 / seconds * 100


def measure(cluster: Rig, scheduler: Role, whole: float, *, quick: bool, say: Callable[[str], None]) -> Figures:
    """All of them; `whole` is the rate end to end, in jobs/s."""
    seconds = 3.0 if quick else 8.0
    found: Figures = {}
    worker = cluster.worker(500)
    say("taskd: latency of an idle cluster")
    found |= idle(cluster, scheduler, 100 if quick else 500)
    say("taskd: delayed jobs")
    found |= delayed(cluster, scheduler, 100 if quick else 500)
    say("taskd: memory and idleness")
    found |= costs(cluster, scheduler, worker, 5 if quick else 20)
    say("taskd: submits one by one")
    worker.stop()
    for name, (rate, p50, p99) in (
        ("POST /jobs, 100 connections", submit_one_by_one(scheduler.url, 100, seconds)),
        ("POST /jobs, 5,000 a second", submit_steadily(scheduler.url, 100, 5000, seconds)),
    ):
        found |= {f"{name}, jobs/s": rate, f"{name}, p50, ms": p50, f"{name}, p99, ms": p99}
    say("taskd: submits by the thousand")
    for connections in (1, 4):
        name = f"POST /jobs/batch of 1,000 on {connections} connection{'s'[: connections > 1]}, jobs/s"
        found[name] = submit_at_once(scheduler, 40_000 if quick else 200_000, connections)
        cluster.empty()
    found["submit_many of 1,000 from Python, jobs/s"] = submit_from_python(scheduler, 40_000 if quick else 200_000)
    cluster.empty()
    found["taskd.submit_many of 1,000 in SQL, jobs/s"] = submit_in_sql(cluster, 40_000 if quick else 200_000)
    cluster.empty()
    say("taskd: draining")
    for task in ("noop", "plain"):
        found[f"drain, {task}, jobs/s"] = drain(cluster, scheduler, 20_000 if quick else 200_000, task)[1]
    say("taskd: half load")
    worker = cluster.worker(500)
    found |= busy(cluster, scheduler, whole, seconds)
    say("taskd: 200 clients")
    found |= saturated(cluster, scheduler, seconds)
    worker.stop()
    say("taskd: an urgent job behind a backlog")
    found |= urgent(cluster, scheduler, 10_000 if quick else 100_000, 5 if quick else 20)
    if not quick:
        say("taskd: a thousand idle workers")
        found["1,000 idle workers, scheduler + PostgreSQL + etcd, % of a core"] = crowded(
            cluster, scheduler, 1000, 30.0
        )
        say("taskd: one worker and eight")
        found |= scaling(cluster, scheduler, 2000)
    return found
