"""Figures of a run, out of its history alone. Seconds unless the name says otherwise."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise

from taskd.domain.shard import shard_of
from taskd.torture.history import Fault, History, Step

FINAL = ("completed", "failed", "cancelled")


def accepted(history: History) -> set[int]:
    """The jobs that a client was told of."""
    return {step.id for step in history.clients if step.op == "ok" and step.id is not None}


def undecided(history: History) -> int:
    """Submits whose client never learned what became of them, however often it asked."""
    last = {s.key: s for s in history.clients if s.op in ("invoke", "ok", "fail", "unknown")}
    told = {s.key for s in history.clients if s.op == "ok"}
    return sum(1 for key, step in last.items() if key not in told and not _is_refusal(step))


def _is_refusal(step: Step) -> bool:
    return step.op == "fail" and step.status not in (0, 503)


def lost(history: History) -> int:
    """Accepted jobs that are not final at the end, or not there at all."""
    return len(accepted(history) - {job.id for job in history.jobs if job.status in FINAL})


def doubled(history: History) -> int:
    """Jobs with more than one final event, or with more than one completed run recorded."""
    ends = Counter(event.job_id for event in history.events if event.to_status in FINAL)
    return sum(1 for n in ends.values() if n > 1)


def repeated(history: History) -> int:
    """Attempts that were cut short by no fault of their task's, and so were made again: crashed, lost or released."""
    return sum(
        1
        for events in history.events_of.values()
        for before, after in pairwise(events)
        if after.move == ("running", "pending") and after.failures == before.failures
    )


def crashes(history: History) -> list[Fault]:
    """Processes that ended badly without being asked or killed: the checker has no word on them, and a person should."""
    hit = {fault.pid for fault in history.faults if fault.what in ("SIGKILL", "SIGTERM")}
    return [f for f in history.faults if f.what == "exit" and f.status != 0 and f.pid not in hit]


def gap(history: History, since: float, until: float) -> float:
    """The longest time without a dispatch, of any shard, between two moments while there was load."""
    return max(longest(moments) for moments in _dispatches(history, since, until))


def gap_began(history: History, since: float, until: float) -> float:
    """When that began."""
    pauses = [pair for moments in _dispatches(history, since, until) for pair in pairwise(moments)]
    return max(pauses, key=lambda pair: pair[1] - pair[0])[0]


def _dispatches(history: History, since: float, until: float) -> list[list[float]]:
    """The moments of each shard whose queues had load, between the two."""
    shards = max((term.shards for term in history.terms), default=1)
    found: dict[int, list[float]] = defaultdict(list)
    for event in history.events:
        if event.to_status == "queued" and since <= event.at <= until:
            found[shard_of(event.queue, shards)].append(event.at)
    return [[since, *sorted(moments), until] for moments in found.values()] or [[since, until]]


def longest(moments: Sequence[float]) -> float:
    """The longest distance between neighbours."""
    return max((b - a for a, b in pairwise(moments)), default=0.0)
