"""The figures of taskd itself: rates, latencies and costs."""

from __future__ import annotations

from collections.abc import Callable

from bench import latency
from bench.contest import drain
from bench.contestants import SLOTS, Tallies
from bench.http_load import submit_one_by_one, submit_steadily
from bench.idle_cost import cost_of_idle_workers, costs
from bench.job_times import Figures, settled
from bench.machine import peak
from bench.peers import BACKLOG
from bench.rig import Rig, RunningProcess
from bench.scaling import scaling
from bench.submits import submit_at_once, submit_batches, submit_from_python, submit_in_sql

#: Seconds of each load, and of half a load, whose p99 needs more; jobs that are observed one by one; and jobs of each
#: kind of batch. They are the same in a short run, so that it can be compared.
SECONDS, HALF, JOBS, BATCHED = 4.0, 8.0, 200, 100_000


def one_by_one(scheduler: RunningProcess) -> Figures:
    """Measure POST /jobs, at the highest rate and at a fixed rate."""
    figures: Figures = {}
    for name, (rate, p50, p99) in (
        ("POST /jobs, 100 connections", submit_one_by_one(scheduler.url, 100, SECONDS)),
        ("POST /jobs, 5,000 a second", submit_steadily(scheduler.url, 100, 5000, SECONDS)),
    ):
        figures |= {f"{name}, jobs/s": rate, f"{name}, p50, ms": p50, f"{name}, p99, ms": p99}
    return figures


def in_batches(cluster: Rig, scheduler: RunningProcess) -> Figures:
    """Return jobs/s submitted by the thousand; none of them runs."""
    ways: dict[str, Callable[[], float]] = {
        "POST /jobs/batch of 1,000 on 1 connection": lambda: submit_at_once(scheduler, BATCHED, 1),
        "POST /jobs/batch of 1,000 on 4 connections": lambda: submit_at_once(scheduler, BATCHED, 4),
        "submit_many of 1,000 from Python": lambda: submit_from_python(scheduler, BATCHED),
        "taskd.submit_many of 1,000 in SQL": lambda: submit_in_sql(cluster, BATCHED),
    }
    figures: Figures = {}
    for name, submit in ways.items():
        cluster.empty()
        figures[f"{name}, jobs/s"] = submit()
    cluster.empty()
    return figures


def drained(cluster: Rig, scheduler: RunningProcess, task: str) -> float:
    """Return jobs/s of a newly started worker, counted as in the contest."""
    tallies = Tallies(cluster.tallies)
    before = tallies.done
    submit_batches(scheduler, BACKLOG, task)
    worker = cluster.worker(SLOTS)
    rate = drain(lambda: tallies.done, before, before + BACKLOG)
    settled(cluster)
    worker.stop()
    return rate


def repeated(
    cluster: Rig, scheduler: RunningProcess, full_rate: float, report_progress: Callable[[str], None]
) -> Figures:
    """Return the figures that every pass measures. `full_rate` is the rate end to end, in jobs/s."""
    worker = cluster.worker(500)
    cluster.finish_background_work()
    report_progress("latency of an idle cluster")
    figures = latency.idle(cluster, scheduler, JOBS)
    report_progress("delayed jobs")
    figures |= latency.delayed(cluster, scheduler, JOBS)
    worker.stop()
    report_progress("submits one by one, and by the thousand")
    figures |= one_by_one(scheduler)
    figures |= in_batches(cluster, scheduler)
    report_progress("draining jobs that run in threads")
    figures["drain, plain, jobs/s"] = drained(cluster, scheduler, "plain")
    worker = cluster.worker(500)
    cluster.finish_background_work()
    report_progress("half load")
    figures |= latency.busy(cluster, scheduler, full_rate, HALF)
    report_progress("200 clients")
    figures |= latency.saturated(cluster, scheduler, SECONDS)
    figures |= {
        "memory, scheduler, MB": peak(scheduler.popen.pid),
        "memory, worker, MB": peak(worker.popen.pid),
        "memory, executor, MB (max)": max(peak(child) for child in worker.children),
    }
    worker.stop()
    report_progress("an urgent job behind a backlog")
    return figures | latency.urgent(cluster, scheduler, backlog=100_000, probes=20)


def once(cluster: Rig, scheduler: RunningProcess, report_progress: Callable[[str], None], *, quick: bool) -> Figures:
    """Return the figures that are measured once, because they take long."""
    report_progress("idleness")
    worker = cluster.worker(500)
    figures = costs(cluster, scheduler, worker, 20)
    worker.stop()
    if not quick:
        report_progress("a thousand idle workers")
        figures["1,000 idle workers, scheduler + PostgreSQL + etcd, % of a core"] = cost_of_idle_workers(
            cluster, scheduler, 1000, 30.0
        )
        report_progress("one worker and eight")
        figures |= scaling(cluster, scheduler, 2000)
    return figures
