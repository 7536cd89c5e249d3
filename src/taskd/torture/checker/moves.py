"""I2, I3, I4: each job's moves, one after another."""

from __future__ import annotations

from itertools import pairwise

from taskd.domain.lifecycle import EDGES
from taskd.torture.checker.ledger import Ledger
from taskd.torture.history import AuditEvent, History, JobRow

LEGAL = frozenset((source.value if source else None, target.value) for source, target in EDGES)
FINAL = frozenset({"completed", "failed", "cancelled"})


def check(history: History, ledger: Ledger) -> None:
    """Check each job's events and its row."""
    for job_id, events in history.events_of.items():
        _check_trail(ledger, job_id, events)
        row = history.row_of.get(job_id)
        if row is None:
            ledger.report("I2", job_id, "there are events, but the job is gone")
        else:
            _check_row(ledger, events[-1], row)
    for row in history.jobs:
        ledger.require("I2", row.id, row.id in history.events_of, "the job exists, but there are no events")
    if len(history.row_of) != len(history.jobs):
        _check_doubles(history, ledger)


def _check_trail(ledger: Ledger, job_id: int, events: list[AuditEvent]) -> None:
    source: str | None = None
    attempt, finals = 0, 0
    for number, event in enumerate(events, 1):
        ledger.count("I2")
        if event.version != number:
            ledger.report("I2", job_id, f"version {event.version} stands where {number} belongs")
            break
        if event.from_status != source:
            ledger.report("I2", job_id, f"version {number} comes from {event.from_status}, but the job was {source}")
        if event.move not in LEGAL:
            ledger.report("I2", job_id, f"version {number}: {event.from_status} -> {event.to_status} is no legal move")
        _check_attempt(ledger, event, attempt)
        source, attempt = event.to_status, event.attempt
        finals += event.to_status in FINAL
    ledger.count("I3", finals)
    for before, after in pairwise(events):
        if before.to_status in FINAL:
            ledger.report("I3", job_id, f"{before.to_status} is final, and then came {after.to_status}")


def _check_attempt(ledger: Ledger, event: AuditEvent, before: int) -> None:
    claimed = event.move == ("queued", "running")
    ledger.count("I4", int(claimed))
    wanted = before + 1 if claimed else before
    move = f"{event.from_status} -> {event.to_status}"
    ledger.require(
        "I4", event.job_id, event.attempt == wanted, f"{move} made the attempt {event.attempt}, not {wanted}"
    )


def _check_row(ledger: Ledger, last: AuditEvent, row: JobRow) -> None:
    recorded = (last.to_status, last.attempt)
    message = f"the last event says {recorded}, the job {(row.status, row.attempt)} (status, attempt)"
    ledger.require("I2", row.id, recorded == (row.status, row.attempt), message)


def _check_doubles(history: History, ledger: Ledger) -> None:
    seen: set[int] = set()
    for row in history.jobs:
        ledger.require("I3", row.id, row.id not in seen, "the job is there twice: live and finished, or finished twice")
        seen.add(row.id)
