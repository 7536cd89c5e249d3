"""Figures of a run, computed from its history, for the table. They are seconds unless the name says otherwise."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from taskd.torture.figures import doubled, gap, lost
from taskd.torture.history import AuditEvent, History

__all__ = [
    "cut_short",
    "doubled",
    "gap",
    "lost",
    "moves",
    "noise",
    "percentile",
    "reaped",
    "restarts",
    "starts",
    "typical",
    "waits",
]

#: Seconds of one window of `typical`.
WINDOW = 2.0


def restarts(history: History, worker: str, killed: float, until: float = float("inf")) -> list[float]:
    """Return the seconds from a worker's death until each job that was taken from it before `until` ran again."""
    orphans = {
        e.job_id: e.at
        for e in history.events
        if e.from_status == "running"
        and e.worker_id == worker
        and e.by.startswith("taskd:leader:")
        and killed <= e.at < until
    }
    return [
        min(
            (e.at for e in history.events if e.job_id == job and e.to_status == "running" and e.at > freed),
            default=float("inf"),
        )
        - killed
        for job, freed in orphans.items()
    ]


def reaped(history: History, workers: Iterable[str] = ()) -> int:
    """Return the number of sessions that a leader ended: of these workers, or of all."""
    selected = set(workers)
    return sum(
        1
        for s in history.sessions
        if s.what == "end" and s.by.startswith("taskd:leader:") and (not selected or s.worker_id in selected)
    )


def cut_short(history: History) -> int:
    """Return the number of attempts that ended without a fault of their task: lost or released."""
    return sum(
        before.failures == after.failures and before.crashes == after.crashes
        for events in history.events_of.values()
        for before, after in pairwise(events)
        if after.move == ("running", "pending")
    )


def waits(history: History, since: float = 0.0, heals: Sequence[float] = ()) -> list[float]:
    """Return the seconds of each job from being queued to its claim, or from the last of `heals` if that was later.

    The wait of a job that was queued again begins with the first time.
    """
    seconds = []
    for events in history.events_of.values():
        queued: float | None = None
        for event in events:
            if event.to_status == "queued":
                queued = event.at if queued is None else queued
            elif event.move != ("queued", "pending"):
                if event.to_status == "running" and queued is not None and event.at >= since:
                    seconds.append(event.at - max([queued, *(heal for heal in heals if heal <= event.at)]))
                queued = None
    return seconds


def starts(history: History, since: float, until: float) -> list[tuple[float, float]]:
    """Return (time, seconds after it was due) of each job's first start, for jobs due between `since` and `until`."""
    samples = []
    for events in history.events_of.values():
        due = max(events[0].at, events[0].schedule_at)
        began = next((event.at for event in events if event.to_status == "running"), None)
        if began is not None and since <= due <= until:
            samples.append((began, began - due))
    return samples


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value below which `percent` of the values lie; infinity if there are none, which exceeds any bound."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else float("inf")


def typical(samples: Iterable[tuple[float, float]], percent: float) -> float:
    """Return the median of the percentiles of each WINDOW seconds of (time, value) samples.

    It serves for ratios. A disk that stands still for half a second, which happens with and without the fault, spoils one
    window here, but it would spoil the percentile of a whole phase.
    """
    windows: dict[int, list[float]] = {}
    for at, value in samples:
        windows.setdefault(int(at // WINDOW), []).append(value)
    return percentile([percentile(values, percent) for values in windows.values()], 50)


def moves(history: History, to_status: str) -> list[AuditEvent]:
    """Return all moves to a status."""
    return [event for event in history.events if event.to_status == to_status]


def noise(logs: Path) -> float:
    """Return the most lines of WARNING or ERROR in one second of one process's log, without lines about one attempt."""
    most = 0
    for log in logs.glob("[sw][0-9]*.log"):
        seconds: Counter[int] = Counter()
        for line in log.read_text(errors="replace").splitlines():
            try:
                entry = json.loads(line)
                of_an_attempt = entry["event"] == "attempt ended" or entry["role"] == "executor"
                if entry["level"] in ("warning", "error") and not of_an_attempt:
                    seconds[int(datetime.fromisoformat(entry["timestamp"]).timestamp())] += 1
            except (ValueError, KeyError, TypeError):
                continue
        most = max(most, *seconds.values(), 0)
    return float(most)
