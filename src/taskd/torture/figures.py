"""Figures of a run, from its history alone. Times are in seconds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise

from taskd.domain.shard import shard_of
from taskd.torture.history import Fault, History, Step

FINAL = ("completed", "failed", "cancelled")


def accepted(history: History) -> set[int]:
    """Return the jobs whose acceptance a client saw."""
    return {step.id for step in history.clients if step.op == "ok" and step.id is not None}


def undecided(history: History) -> int:
    """Return the number of submits whose client never learned their outcome, despite all repetitions."""
    last = {s.key: s for s in history.clients if s.op in ("invoke", "ok", "fail", "unknown")}
    known = {s.key for s in history.clients if s.op == "ok"}
    return sum(1 for key, step in last.items() if key not in known and not _is_refusal(step))


def _is_refusal(step: Step) -> bool:
    return step.op == "fail" and step.status not in (0, 503)


def lost(history: History) -> int:
    """Return the number of accepted jobs that are missing or not final at the end."""
    return len(accepted(history) - {job.id for job in history.jobs if job.status in FINAL})


def doubled(history: History) -> int:
    """Return the number of jobs with more than one final event."""
    ends = Counter(event.job_id for event in history.events if event.to_status in FINAL)
    return sum(1 for n in ends.values() if n > 1)


def repeated(history: History) -> int:
    """Return the number of attempts that ended without a failure of their task and were repeated.

    These crashed, or were lost or released.
    """
    return sum(
        1
        for events in history.events_of.values()
        for before, after in pairwise(events)
        if after.move == ("running", "pending") and after.failures == before.failures
    )


def crashes(history: History) -> list[Fault]:
    """Return the ends of processes with an error that no fault had caused: no invariant covers them."""
    hit = {fault.pid for fault in history.faults if fault.what in ("SIGKILL", "SIGTERM")}
    return [f for f in history.faults if f.what == "exit" and f.status != 0 and f.pid not in hit]


def gap(history: History, since: float, until: float) -> float:
    """Return the longest time without a dispatch, of any shard, between two moments while there was load."""
    return max(longest(moments) for moments in _dispatches(history, since, until))


def gap_began(history: History, since: float, until: float) -> float:
    """Return the beginning of the longest time without a dispatch."""
    pauses = [pair for moments in _dispatches(history, since, until) for pair in pairwise(moments)]
    return max(pauses, key=lambda pair: pair[1] - pair[0])[0]


def _dispatches(history: History, since: float, until: float) -> list[list[float]]:
    """Return the moments of dispatches, with both ends, of each shard whose queues had load."""
    shards = max((term.shards for term in history.terms), default=1)
    moments_of: dict[int, list[float]] = defaultdict(list)
    for event in history.events:
        if event.to_status == "queued" and since <= event.at <= until:
            moments_of[shard_of(event.queue, shards)].append(event.at)
    return [[since, *sorted(moments), until] for moments in moments_of.values()] or [[since, until]]


def longest(moments: Sequence[float]) -> float:
    """Return the longest distance between neighbours."""
    return max((b - a for a, b in pairwise(moments)), default=0.0)
