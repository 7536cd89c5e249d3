"""Prints what this machine reaches beside the floors that taskd keeps. `make bench`, or QUICK=1 for a short one."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import httpx
import psycopg
from rich.console import Console
from rich.table import Table

import taskd
from bench.http_load import submit_one_by_one
from bench.rig import Rig, Role, batch, megabytes, post, rig, until

OUT = Path(__file__).parent / "out" / "latest.json"

#: What a figure must not fall below (">=") or exceed ("<="), on two cores with everything on them.
FLOORS = {
    "end to end, jobs/s": ">= 6000",
    "POST /jobs, 64 connections, jobs/s": ">= 5000",
    "idle, submit to start p50, ms": "<= 15",
    "idle, submit to start p99, ms": "<= 60",
    "idle, statements/s": "<= 5",
    "idle, scheduler CPU, % of a core": "<= 3",
    "idle, worker CPU, % of a core": "<= 3",
    "urgent job behind 10,000, start, ms (max)": "<= 150",
    "memory, scheduler, MB": "<= 150",
    "memory, worker, MB": "<= 120",
    "memory, executor, MB (max)": "<= 80",
}


def end_to_end(cluster: Rig, scheduler: Role, jobs: int) -> float:
    """Jobs/s from the first submit to the last completion."""
    body, before, began = batch("noop", {}), cluster.finished(), time.perf_counter()
    with httpx.Client(timeout=60) as client:
        for _ in range(jobs // 1000):
            post(client, f"{scheduler.url}/jobs/batch", body)
    until(lambda: cluster.finished() - before >= jobs)
    return jobs / (time.perf_counter() - began)


def drain(cluster: Rig, scheduler: Role, jobs: int, task: str) -> float:
    """Jobs/s from a worker's start to the last completion, with all jobs submitted before."""
    before = cluster.finished()
    with httpx.Client(timeout=60) as client:
        for _ in range(jobs // 1000):
            post(client, f"{scheduler.url}/jobs/batch", batch(task, {}))
    worker = cluster.worker(500)
    began = time.perf_counter()
    until(lambda: cluster.finished() - before >= jobs)
    rate = jobs / (time.perf_counter() - began)
    worker.stop()
    return rate


def idle_latency(cluster: Rig, scheduler: Role, jobs: int) -> tuple[list[float], list[float]]:
    """Sorted milliseconds (submit to start, submit to a client that waits for the end), one job after another."""
    ids, seen = [], []
    with httpx.Client(timeout=60) as client:
        for _ in range(jobs):
            began = time.perf_counter()
            job = client.post(f"{scheduler.url}/jobs", json={"task": "noop", "payload": {}}).json()
            client.get(f"{scheduler.url}/jobs/{job['id']}?wait=10").raise_for_status()
            seen.append((time.perf_counter() - began) * 1e3)
            ids.append(job["id"])
    return sorted(_starts(cluster, ids)), sorted(seen)


def _starts(cluster: Rig, ids: list[int]) -> list[float]:
    """Milliseconds from created_at to started_at, by PostgreSQL's clock."""
    with psycopg.connect(cluster.dsn) as connection:
        rows = connection.execute(
            "SELECT extract(epoch FROM started_at - created_at)::float8 * 1000 FROM taskd.finished_jobs WHERE id = ANY(%s)",
            [ids],
        ).fetchall()
    return [float(row[0]) for row in rows]


def urgent(cluster: Rig, scheduler: Role, probes: int) -> list[float]:
    """Sorted milliseconds until an urgent job starts while 8 slots work through a backlog of 50 ms jobs."""
    worker = cluster.worker(8)
    with httpx.Client(timeout=60) as client:
        for _ in range(10):
            post(client, f"{scheduler.url}/jobs/batch", batch("nap", {"seconds": 0.05}, priority=1))
        ids = []
        for _ in range(probes):
            body = {"task": "noop", "payload": {}, "priority": 90}
            ids.append(client.post(f"{scheduler.url}/jobs", json=body).json()["id"])
            client.get(f"{scheduler.url}/jobs/{ids[-1]}?wait=30").raise_for_status()
    worker.popen.kill()
    worker.popen.wait()
    return sorted(_starts(cluster, ids))


def idleness(cluster: Rig, scheduler: Role, worker: Role, seconds: float) -> tuple[float, float, float]:
    """(statements/s, scheduler's and worker's CPU in % of a core) of a cluster with nothing to do."""
    time.sleep(12)  # an idle backend tells of its last transactions only after 10 s
    before = cluster.transactions(), scheduler.cpu, worker.cpu
    time.sleep(seconds)
    after = cluster.transactions(), scheduler.cpu, worker.cpu
    statements, own, its = (b - a for a, b in zip(before, after, strict=True))
    return (statements - 1) / seconds, own / seconds * 100, its / seconds * 100


def measure(cluster: Rig, *, quick: bool, say: Callable[[str], None]) -> dict[str, float]:
    """All figures, by the names of FLOORS and a few more."""
    scheduler, figures = cluster.scheduler(), {}
    jobs, passes = (20_000, 1) if quick else (60_000, 3)
    worker = cluster.worker(500)
    say("end to end")
    figures["end to end, jobs/s"] = statistics.median(end_to_end(cluster, scheduler, jobs) for _ in range(passes))
    say("latency of an idle cluster")
    starts, seen = idle_latency(cluster, scheduler, 100 if quick else 300)
    for share in (50, 99):
        figures[f"idle, submit to start p{share}, ms"] = starts[len(starts) * share // 100]
        figures[f"idle, submit to seen completed p{share}, ms"] = seen[len(seen) * share // 100]
    say("memory and idleness")
    figures["memory, scheduler, MB"] = megabytes(scheduler.popen.pid)
    figures["memory, worker, MB"] = megabytes(worker.popen.pid)
    figures["memory, executor, MB (max)"] = max(megabytes(child) for child in worker.children)
    statements, own, its = idleness(cluster, scheduler, worker, 5 if quick else 20)
    figures["idle, statements/s"] = statements
    figures["idle, scheduler CPU, % of a core"] = own
    figures["idle, worker CPU, % of a core"] = its
    worker.stop()
    say("one by one")
    rate, p50, p99 = submit_one_by_one(scheduler.url, 64, 3 if quick else 8)
    figures["POST /jobs, 64 connections, jobs/s"] = rate
    figures["POST /jobs, 64 connections, p50, ms"] = p50
    figures["POST /jobs, 64 connections, p99, ms"] = p99
    say("draining")
    for task in ("noop", "plain"):
        figures[f"drain, {task}, jobs/s"] = drain(cluster, scheduler, jobs, task)
    say("an urgent job behind a backlog")
    found = urgent(cluster, scheduler, 5 if quick else 10)
    figures["urgent job behind 10,000, start, ms (median)"] = statistics.median(found)
    figures["urgent job behind 10,000, start, ms (max)"] = found[-1]
    return figures


def holds(figure: float, floor: str) -> bool:
    """Whether a figure keeps a floor such as `>= 6000`."""
    sign, _, bound = floor.partition(" ")
    return figure >= float(bound) if sign == ">=" else figure <= float(bound)


def report(figures: dict[str, float], console: Console) -> None:
    """A table, and the same as JSON under bench/out."""
    table = Table("figure", "measured", "floor", "")
    for name, figure in figures.items():
        floor = FLOORS.get(name, "")
        verdict = "" if not floor else "kept" if holds(figure, floor) else "MISSED"
        table.add_row(name, f"{figure:,.0f}" if figure >= 1000 else f"{figure:.1f}", floor, verdict)
    console.print(table)
    machine = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "taskd": taskd.__version__,
        "worker": "1 with 500 slots in 1 executor process",
        "log level": "WARNING",
        "at": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    console.print(" ".join(f"{key} {value}" for key, value in machine.items()))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({"machine": machine, "figures": figures}, indent=2) + "\n")


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        default=os.environ.get("QUICK", "0") not in ("", "0"),
        help="fewer, shorter passes",
    )
    quick = parser.parse_args().quick
    console = Console()
    with tempfile.TemporaryDirectory(prefix="taskd-bench-") as folder:
        Path(folder).chmod(0o711)
        with rig(Path(folder)) as cluster:
            figures = measure(cluster, quick=quick, say=lambda what: console.print(f"measuring: {what}"))
    report(figures, console)


if __name__ == "__main__":
    main()
