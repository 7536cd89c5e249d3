"""Figures of a run, out of its history: what the table shows beside each bound. Seconds unless the name says otherwise."""

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

#: Seconds of a phase that `typical` looks at together.
WINDOW = 2.0


def restarts(history: History, worker: str, killed: float, until: float = float("inf")) -> list[float]:
    """How long after a worker's death each of the jobs ran again that were taken from it before `until`."""
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
    """Sessions that a leader ended: of these workers, or of all."""
    wanted = set(workers)
    return sum(
        1
        for s in history.sessions
        if s.what == "end" and s.by.startswith("taskd:leader:") and (not wanted or s.worker_id in wanted)
    )


def cut_short(history: History) -> int:
    """Attempts that were ended although their task had done nothing wrong: lost, or given back."""
    return sum(
        before.failures == after.failures and before.crashes == after.crashes
        for events in history.events_of.values()
        for before, after in pairwise(events)
        if after.move == ("running", "pending")
    )


def waits(history: History, since: float = 0.0, heals: Sequence[float] = ()) -> list[float]:
    """How long each job waited from being queued to its claim, or from the last of `heals` if that was later.

    A job that had to be queued anew waited since the first time.
    """
    found = []
    for events in history.events_of.values():
        queued: float | None = None
        for event in events:
            if event.to_status == "queued":
                queued = event.at if queued is None else queued
            elif event.move != ("queued", "pending"):
                if event.to_status == "running" and queued is not None and event.at >= since:
                    found.append(event.at - max([queued, *(heal for heal in heals if heal <= event.at)]))
                queued = None
    return found


def starts(history: History, since: float, until: float) -> list[tuple[float, float]]:
    """(when, how long after it was due) each job began for the first time, for jobs due between two moments."""
    found = []
    for events in history.events_of.values():
        due = max(events[0].at, events[0].schedule_at)
        began = next((event.at for event in events if event.to_status == "running"), None)
        if began is not None and since <= due <= until:
            found.append((began, began - due))
    return found


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which so many percent lie; infinity of nothing, which keeps no bound."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else float("inf")


def typical(samples: Iterable[tuple[float, float]], percent: float) -> float:
    """The percentile of (when, value) in each WINDOW seconds, of which the median.

    For ratios: a disk that stands still for half a second, which happens with and without the fault, spoils one window, but the
    percentile of a whole phase.
    """
    windows: dict[int, list[float]] = {}
    for at, value in samples:
        windows.setdefault(int(at // WINDOW), []).append(value)
    return percentile([percentile(values, percent) for values in windows.values()], 50)


def moves(history: History, to_status: str) -> list[AuditEvent]:
    """All moves to a status."""
    return [event for event in history.events if event.to_status == to_status]


def noise(logs: Path) -> float:
    """The most lines of WARNING or ERROR that a scheduler or worker wrote in any one second, lines about one attempt aside."""
    most = 0
    for log in logs.glob("[sw][0-9]*.log"):
        seconds: Counter[int] = Counter()
        for line in log.read_text(errors="replace").splitlines():
            try:
                said = json.loads(line)
                of_an_attempt = said["event"] == "attempt ended" or said["role"] == "executor"
                if said["level"] in ("warning", "error") and not of_an_attempt:
                    seconds[int(datetime.fromisoformat(said["timestamp"]).timestamp())] += 1
            except (ValueError, KeyError, TypeError):
                continue
        most = max(most, *seconds.values(), 0)
    return float(most)
