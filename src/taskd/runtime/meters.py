"""Every metric that a process exports to Prometheus. Each room observes its own; nothing here reads them.

Names follow Prometheus's habits: seconds, `_total` for counters. Labels hold queues, tasks and statuses, never ids.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from taskd.domain.health import Health
from taskd.runtime import stdio

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second, useless series for each
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

#: Seconds: what a statement, and what a task may take.
FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
LONG = (0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0)


def _counter(name: str, meaning: str, *labels: str) -> Counter:
    return Counter(f"taskd_{name}", meaning, labels, registry=REGISTRY)


def _gauge(name: str, meaning: str, *labels: str) -> Gauge:
    return Gauge(f"taskd_{name}", meaning, labels, registry=REGISTRY)


def _histogram(name: str, meaning: str, *labels: str, buckets: tuple[float, ...] = FAST) -> Histogram:
    return Histogram(f"taskd_{name}_seconds", meaning, labels, buckets=buckets, registry=REGISTRY)


# ---------------------------------------------------------------- schedulers

SUBMITTED = _counter("submitted_jobs", "Jobs that this scheduler stored")
DUPLICATES = _counter("duplicate_submits", "Submits that found an earlier job by its key")
SUBMIT = _histogram("submit", "One INSERT of whatever was waiting")
DISPATCH = _histogram("dispatch", "One dispatch: the statement and the ring")
DISPATCHED = _counter("dispatched_jobs", "Jobs that this scheduler moved to queued")
LAG = _histogram("dispatch_lag", "In each dispatch, the longest time from due to queued", buckets=LONG)
REOFFERED = _counter("reoffered_jobs", "Queued jobs whose doorbell was lost")
REAPED = _counter("reaped_sessions", "Sessions of workers that fell silent")
RESTARTED = _counter("restarted_jobs", "Jobs that a lost worker had been running")
PRUNED = _counter("pruned_jobs", "Finished jobs deleted after their time")
FIRED = _counter("fired_jobs", "Jobs that schedules made")
SKIPPED_TICKS = _counter("skipped_ticks", "Ticks that made no job because an earlier one was live")
TURNED_AWAY = _counter("refused_requests", "Requests that were not let in", "reason")
TERMS = _counter("leader_changes", "Terms that this scheduler began")
SHARDS = _gauge("shards", "The number of shards in this scheduler's settings")
LEADING = _gauge("leading", "How many shards this scheduler leads")
EPOCH = _gauge("epoch", "The epoch of this scheduler's latest term of a shard", "shard")

JOBS = _gauge("jobs", "Live jobs, cluster-wide", "queue", "status")
OLDEST = _gauge("oldest_pending_seconds", "How long the oldest due job has waited, cluster-wide", "queue")
QUEUES_LEFT_OUT = _gauge("queues_left_out", "Queues whose jobs are counted under the queue …others, cluster-wide")
FINISHED = _gauge("finished_jobs", "Jobs that ended so since the cluster was made, cluster-wide", "status")

# ---------------------------------------------------------------- workers

CLAIM = _histogram("claim", "One claim statement")
SETTLE = _histogram("settle", "One settle statement")
CLAIMED = _counter("claimed_jobs", "Claims that this worker won")
REFUSED = _counter("refused_claims", "Deliveries that were not current any more")
ALONE = _counter(
    "lone_attempts", "Attempts that had this worker for themselves, of jobs under which workers disappeared"
)
RUN = _histogram("run", "One attempt, from claim to end", "task", buckets=LONG)
ATTEMPTS = _counter("attempts", "Attempts that ended", "task", "outcome")
RETRIES = _counter("retries", "Attempts after which the job is tried again")
FENCED = _counter("fenced_settles", "Results refused because the claim had been lost")
RESTARTS = _gauge("executor_restarts", "Executors that had to be replaced since the start")
SLOTS = _gauge("slots", "How many attempts may run at once")
RUNNING = _gauge("running_attempts", "How many attempts run")
SESSION_AGE = _gauge("session_age_seconds", "How long this worker's session has been open")

# ---------------------------------------------------------------- both

DISCARDED = _counter("discarded_values", "Values in Redis or etcd that taskd could not use", "source", "kind")
UP = _gauge("up", "1 if the server answers this process", "server")
LANE_WAIT = _histogram("lane_wait", "Waiting for a connection to PostgreSQL that is in use", "duty")
LOOP_LAG = _histogram("event_loop_lag", "The delay of the event loop's timers")
ACCEPT_PAUSES = _counter("accept_pauses", "Times that new connections had to wait for a file descriptor")
LOOP_TASKS = _gauge("event_loop_tasks", "asyncio tasks of this process")


class _LinesLost(Collector):
    """Lines that this process and its children (`elsewhere`, by their own reports) could not write to the log.

    It is read and not counted up: what counts is the sink, inside of a write, where no lock of another may be waited for.
    """

    def __init__(self) -> None:
        self.elsewhere = 0

    def collect(self) -> Iterator[CounterMetricFamily]:
        meaning = "Lines of the log of this process and its executors that could not be written"
        yield CounterMetricFamily("taskd_log_lines_lost", meaning, stdio.lines_lost() + self.elsewhere)


LINES_LOST = _LinesLost()
REGISTRY.register(LINES_LOST)

#: Seconds between measurements of the event loop.
EVERY = 0.5


@contextmanager
def timed(histogram: Histogram) -> Iterator[None]:
    """Observe the duration of the block, if it succeeds."""
    began = time.perf_counter()
    yield
    histogram.observe(time.perf_counter() - began)


async def watch_loop() -> None:
    """Measure the event loop's lag until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + EVERY
        await asyncio.sleep(EVERY)
        LOOP_LAG.observe(max(0.0, loop.time() - due))


def show_servers(components: Mapping[str, Health]) -> None:
    """Set the gauges that all processes have."""
    for name, health in components.items():
        UP.labels(name).set(health.ok)
    LOOP_TASKS.set(len(asyncio.all_tasks()))


def wants_text(accept: str) -> bool:
    """Return True if this Accept header is that of Prometheus or a similar scraper, and not of a reader of JSON."""
    return "application/json" not in accept and ("application/openmetrics-text" in accept or "text/plain" in accept)


#: The most queues with series of their own, and the name under which the others are summed.
MOST_QUEUES, OTHERS = 500, "…others"


def exposition(accept: str) -> tuple[bytes, str]:
    """Return all metrics as text, and its content type."""
    encode, content_type = choose_encoder(accept)
    return encode(REGISTRY), content_type
