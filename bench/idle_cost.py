"""The cost of an idle cluster."""

from __future__ import annotations

import time

from bench.job_times import Figures
from bench.machine import nanoseconds, process_tree
from bench.rig import Rig, RunningProcess


def costs(cluster: Rig, scheduler: RunningProcess, worker: RunningProcess, seconds: float) -> Figures:
    """Return the statements and processor time of an idle cluster."""
    with cluster.without_autovacuum():
        # autovacuum's transactions come from earlier work
        time.sleep(12)  # an idle backend reports its last transactions only after 10 s
        before = cluster.transactions(), nanoseconds(scheduler.popen.pid), nanoseconds(worker.popen.pid)
        time.sleep(seconds)
        after = cluster.transactions(), nanoseconds(scheduler.popen.pid), nanoseconds(worker.popen.pid)
    statements, scheduler_time, worker_time = (b - a for a, b in zip(before, after, strict=True))
    return {
        "idle, statements/s": (statements - 1) / seconds,
        "idle, scheduler CPU, % of a core": scheduler_time / 1e9 / seconds * 100,
        "idle, worker CPU, % of a core": worker_time / 1e9 / seconds * 100,
    }


def cost_of_idle_workers(cluster: Rig, scheduler: RunningProcess, workers: int, seconds: float) -> float:
    """Return the cost of that many idle workers for the scheduler, PostgreSQL and etcd together, in % of a core."""
    servers = cluster.servers.postgres.child.pid, cluster.servers.etcd.child.pid
    with cluster.idle_workers(workers, 4):
        time.sleep(15)  # until the work of their registration has ended
        pids = [scheduler.popen.pid, *(member for pid in servers if pid for member in process_tree(pid))]
        before = sum(nanoseconds(pid) for pid in pids)
        time.sleep(seconds)
        return (sum(nanoseconds(pid) for pid in pids) - before) / 1e9 / seconds * 100
