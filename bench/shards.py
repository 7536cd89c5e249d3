"""The dispatch rate of leaders: of one shard, of two led by one scheduler, and of two led by one scheduler each.

Run it with `python -m bench.shards [JOBS]`. The jobs wait in two queues, one of each shard. Then a worker announces
more slots than there are jobs, and claims none.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import httpx
import psycopg

from bench.rig import Rig, batch, post, rig, until
from taskd.domain.shard import shard_of

#: (Shards, schedulers), and how often each pair is measured, in turn.
SETUPS, PASSES = ((1, 1), (2, 1), (2, 2)), 3
PENDING = b"SELECT 1 FROM taskd.jobs WHERE status = 'pending' LIMIT 1"
RATE = b"SELECT count(*) / extract(epoch FROM max(queued_at) - min(queued_at))::float8 FROM taskd.jobs"


def queues() -> list[str]:
    """Return the names of two queues, one for each of two shards."""
    names = {shard_of(f"queue-{number}", 2): f"queue-{number}" for number in range(100)}
    return [names[shard] for shard in (0, 1)]


def dispatched(shards: int, schedulers: int, jobs: int) -> float:
    """Return jobs/s of all leaders together, by PostgreSQL's clock."""
    os.environ["TASKD_SCHEDULER__SHARDS"] = str(shards)
    with tempfile.TemporaryDirectory(prefix="taskd-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL's own user must get through
        with rig(folder) as cluster:
            return _dispatched(cluster, shards, schedulers, jobs)


def _dispatched(cluster: Rig, shards: int, schedulers: int, jobs: int) -> float:
    first, *_ = [cluster.scheduler() for _ in range(schedulers)]  # each then leads at least one shard
    until(lambda: len(_leaders(first.url)) == shards and len(set(_leaders(first.url))) == schedulers)
    with httpx.Client(timeout=60) as client:
        for _ in range(jobs // 2000):
            for queue in queues():
                post(client, f"{first.url}/jobs/batch", batch("noop", {}, queue=queue))
    worker = subprocess.Popen(
        [sys.executable, "-m", "bench.idle_workers", "0", "1", str(5 * jobs), *queues()], env=cluster.environment
    )
    try:
        with psycopg.connect(cluster.dsn, autocommit=True) as connection:
            until(lambda: connection.execute(PENDING).fetchone() is None)
            row = connection.execute(RATE).fetchone()
    finally:
        worker.kill()
        worker.wait()
    assert row is not None
    return float(row[0])


def _leaders(url: str) -> list[str]:
    """Return the leader of each shard that has one."""
    document = httpx.get(f"{url}/leader").json()
    return [leader for shard in document.get("shards", [document]) if (leader := shard["current_leader"])]


def main() -> None:
    """Measure, and print a line for each setup."""
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 60_000
    measured: dict[tuple[int, int], list[float]] = {setup: [] for setup in SETUPS}
    for _ in range(PASSES):
        for setup, rates in measured.items():
            rates.append(dispatched(*setup, jobs))
    for (shards, schedulers), rates in measured.items():
        print(
            f"{shards} shards, {schedulers} schedulers: {median(rates):,.0f} jobs/s ({min(rates):,.0f} to {max(rates):,.0f})"
        )


if __name__ == "__main__":
    main()
