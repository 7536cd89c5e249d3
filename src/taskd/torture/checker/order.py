"""I9: each dispatch took the best eligible jobs.

A batch is the set of jobs that one statement dispatched. Per queue and band, no job that stayed behind may be better than one
that was dispatched. Jobs wait in heaps by queue and priority, where (schedule_at, id) alone orders them, whatever their age. So
each batch is compared with the heads only, and a run is checked in about the time that it takes to sort it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from heapq import heappop, heappush
from itertools import pairwise
from typing import NamedTuple

from taskd.domain.band import Band, band_of
from taskd.torture.checker.disturbance import POSTGRES, Window, windows
from taskd.torture.checker.leaders import DISPATCH
from taskd.torture.checker.ledger import Ledger
from taskd.torture.history import AuditEvent, History

#: Seconds after a commit's time until other transactions surely see it; only then a job counts as eligible.
SEEN_AFTER = 1.0
#: Seconds after a freeze during which a server may act out of the recorded order.
SETTLING = 2.0
#: Times are rounded to microseconds, so an age at the edge of a step may be on either side of it.
ROUNDING = 1e-5

Rank = tuple[float, float, int]


class Waiting(NamedTuple):
    """One stay of a job in pending: surely visible from `since`, surely untouched until `until`."""

    since: float
    schedule_at: float
    job_id: int
    queue: str
    priority: int
    until: float


class Heads:
    """The jobs that are eligible at the moment, by queue and priority."""

    def __init__(self, waiting: list[Waiting]) -> None:
        self._coming = sorted(waiting, reverse=True)
        self._heaps: dict[tuple[str, int], list[tuple[float, int, float]]] = defaultdict(list)

    def advance(self, moment: float) -> None:
        """Add the jobs that are eligible by `moment`, which never goes back."""
        while self._coming and self._coming[-1].since <= moment:
            job = self._coming.pop()
            heappush(self._heaps[job.queue, job.priority], (job.schedule_at, job.job_id, job.until))

    def best(self, queue: str, priority: int, after: float) -> tuple[float, int] | None:
        """Return the (schedule_at, id) of the first job that was still waiting at `after`; None without one."""
        heap = self._heaps.get((queue, priority))
        while heap and heap[0][2] <= after:
            heappop(heap)
        return heap[0][:2] if heap else None


def check(history: History, ledger: Ledger) -> None:
    """Check each batch, unless PostgreSQL was frozen around it."""
    ageing = history.meta.ageing
    if ageing is None:
        return
    frozen = [Window(w.start, w.end + SETTLING) for w in windows(history, POSTGRES, what="SIGSTOP")]
    heads = Heads(_waiting(history))
    for batch in _batches(history):
        moment, last = batch[0].statement_at, max(e.at for e in batch)
        heads.advance(moment)
        if not any(w.touches(moment, last) for w in frozen):
            _check_batch(ledger, batch, heads, last, ageing)


def _batches(history: History) -> list[list[AuditEvent]]:
    """Return the dispatches by transaction, in the order of their beginning."""
    batches: dict[int, list[AuditEvent]] = defaultdict(list)
    for event in history.events:
        if event.move == DISPATCH:
            batches[event.xid].append(event)
    return sorted(batches.values(), key=lambda batch: batch[0].statement_at)


def _waiting(history: History) -> list[Waiting]:
    answered: dict[int, float] = {}
    for step in history.clients:
        if step.op == "ok" and step.id is not None:
            answered.setdefault(step.id, step.at)
    waiting: list[Waiting] = []
    for job_id, events in history.events_of.items():
        for event, after in pairwise([*events, None]):
            if event is None or event.to_status != "pending":
                continue
            seen = max(event.effective_at, answered.get(job_id, 0.0) if event.version == 1 else 0.0)
            since = max(seen + SEEN_AFTER, event.schedule_at)
            until = after.statement_at if after else math.inf
            waiting.append(Waiting(since, event.schedule_at, job_id, event.queue, event.priority, until))
    return waiting


def _check_batch(ledger: Ledger, batch: list[AuditEvent], heads: Heads, last: float, ageing: float) -> None:
    worst: dict[tuple[str, Band], tuple[Rank, AuditEvent]] = {}
    for event in batch:
        rank = _rank(event.priority, batch[0].statement_at + ROUNDING, event.schedule_at, event.job_id, ageing)
        line = event.queue, band_of(event.priority)
        worst[line] = max(worst.get(line, (rank, event)), (rank, event), key=lambda pair: pair[0])
    for (queue, band), (rank, event) in worst.items():
        ledger.count("I9")
        for priority in range(band.low, band.high + 1):
            head = heads.best(queue, priority, last)
            if head and _rank(priority, batch[0].statement_at - ROUNDING, *head, ageing) < rank:
                message = (
                    f"job {event.job_id} (priority {event.priority}) was dispatched at {event.statement_at:.3f}, "
                    f"and this better one (priority {priority}) stayed behind"
                )
                ledger.report("I9", head[1], message)


def _rank(priority: int, moment: float, schedule_at: float, job_id: int, ageing: float) -> Rank:
    """Return the rank by the order of dispatch.sql; a smaller rank is better."""
    return -(priority + math.floor((moment - schedule_at) / ageing)), schedule_at, job_id
