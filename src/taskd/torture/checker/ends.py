"""I13, I14: cancelled jobs stay cancelled, and in the end every job is over."""

from __future__ import annotations

from taskd.torture.checker.disturbance import faulty_time
from taskd.torture.checker.ledger import Ledger
from taskd.torture.checker.moves import FINAL
from taskd.torture.history import AuditEvent, History

#: Seconds. The trace has another clock than the events.
CLOCKS = 0.5


def check(history: History, ledger: Ledger) -> None:
    """Check each cancel and, if all jobs should have ended, each job."""
    for step in history.clients:
        if step.op == "cancel_ok" and step.id is not None:
            ledger.count("I13")
            _check_cancelled(history, ledger, step.id)
        elif step.op == "cancel_late" and step.id is not None:
            ledger.count("I13")
            _check_late(history, ledger, step.id, step.status)
    if history.meta.quiet:
        _check_quiet(history, ledger)


def _check_cancelled(history: History, ledger: Ledger, job_id: int) -> None:
    events = history.events_of.get(job_id, [])
    cancel = next((e for e in events if e.to_status == "cancelled"), None)
    if cancel is None:
        ledger.report("I13", job_id, "its cancel was accepted, and it was never cancelled")
        return
    for event in events:
        if event.version > cancel.version and event.to_status == "running":
            ledger.report("I13", job_id, f"attempt {event.attempt} was claimed after the cancel")
    row = history.row_of.get(job_id)
    if row is not None:
        ledger.require("I13", job_id, row.status == "cancelled", f"its cancel was accepted, and it is {row.status}")
    _check_silence(history, ledger, cancel)


def _check_silence(history: History, ledger: Ledger, cancel: AuditEvent) -> None:
    limit = _since(history, cancel) + history.meta.cancel_bound + CLOCKS
    last = max((s.at for signs in history.signs_of.get(cancel.job_id, {}).values() for s in signs), default=0.0)
    message = f"its task went on for {last - cancel.at:.3f} s after the cancel"
    ledger.require("I13", cancel.job_id, last <= limit, message)


def _since(history: History, cancel: AuditEvent) -> float:
    """Return the time from which the bound counts: the cancel, or the healing if there were faults meanwhile."""
    faulty = faulty_time(history)
    if faulty is not None and faulty.touches(cancel.at, cancel.at + history.meta.cancel_bound):
        return max(cancel.at, faulty.end)
    return cancel.at


def _check_late(history: History, ledger: Ledger, job_id: int, status: int | str | None) -> None:
    row = history.row_of.get(job_id)
    if row is None or row.status not in FINAL:
        status_now = row.status if row else "gone"
        ledger.report("I13", job_id, f"its cancel was refused because it was over, and it is {status_now}")
    elif isinstance(status, str) and status in FINAL and status != row.status:
        ledger.report("I13", job_id, f"its cancel was refused because it was {status}, and it is {row.status}")


def _check_quiet(history: History, ledger: Ledger) -> None:
    now = max((e.at for e in history.events), default=0.0)
    for row in history.jobs:
        ledger.count("I14")
        delayed = row.status == "pending" and row.schedule_at > now
        ledger.require("I14", row.id, row.status in FINAL or delayed, f"the run is over, and it is {row.status}")
    left = history.meta.redis
    if left is not None:
        message = f"the run is over, and Redis has {left.entries} entries and {left.pending} pending"
        ledger.count("I14")
        ledger.require("I14", None, left.entries == 0 and left.pending == 0, message)
