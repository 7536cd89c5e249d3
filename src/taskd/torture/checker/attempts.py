"""I5, I6, I12: each attempt's claim, run and end."""

from __future__ import annotations

from itertools import pairwise

from taskd.domain.policy import LONE_LOSS_LIMIT, SUSPECT_AFTER
from taskd.domain.retry import CRASH_LIMIT
from taskd.torture.checker.leaders import CLAIM, LEADER
from taskd.torture.checker.ledger import Ledger
from taskd.torture.checker.sessions import wrongly_ended
from taskd.torture.history import AuditEvent, History, JobRow, Sign

#: A process's name is cut to this length in its connections' application_name.
NAME_LENGTH = 40
#: The connections of tasks' own transactions (`taskd.store.task_connections`) have names that are cut to this length.
TASK_NAME_LENGTH = 50
#: Seconds. The trace has another clock than the events (the time since boot), and a slewed Unix clock drifts from it.
CLOCKS = 1.0
#: Rounding, in seconds.
ROUNDING = 0.001


def check(history: History, ledger: Ledger) -> None:
    """Check each job's attempts."""
    wrong = wrongly_ended(history)
    for job_id, events in history.events_of.items():
        _check_closing(history, ledger, events, wrong)
        row = history.row_of.get(job_id)
        if row is not None:
            _check_limits(ledger, events, row)
        _check_snoozes(history, ledger, events)
    _check_runs(history, ledger)


# ---------------------------------------------------------------- I5


def _check_closing(history: History, ledger: Ledger, events: list[AuditEvent], wrong: dict[str, str]) -> None:
    claim: AuditEvent | None = None
    for event in events:
        if event.move == CLAIM:
            ledger.count("I5")
            if claim is not None:
                ledger.report("I5", event.job_id, f"claimed again while attempt {claim.attempt} was open")
            claim = event
        elif event.from_status == "running":
            if claim is None:
                ledger.report("I5", event.job_id, f"version {event.version} closes an attempt that was not open")
            else:
                _check_closer(history, ledger, claim, event, wrong)
            claim = None


def _check_closer(history: History, ledger: Ledger, claim: AuditEvent, end: AuditEvent, wrong: dict[str, str]) -> None:
    if (claim.attempt, claim.session_id) != (end.attempt, end.session_id):
        message = f"attempt {claim.attempt} of session {claim.session_id} was open, and"
        ledger.report("I5", end.job_id, f"{message} {end.attempt} of {end.session_id} was closed")
    holder = f"taskd:settle:{(claim.worker_id or '')[:NAME_LENGTH]}"
    task = f"taskd:task:{claim.worker_id or ''}"[:TASK_NAME_LENGTH] + ":"
    if end.to_status == "cancelled" or end.by == holder:
        return
    if end.to_status == "completed" and end.by.startswith(task):  # by the task's own transaction
        return
    session = claim.session_id or ""
    if not end.by.startswith(LEADER):
        ledger.report("I5", end.job_id, f"attempt {claim.attempt} of {claim.worker_id} was closed by {end.by}")
    elif not any(s.what == "end" and s.at <= end.at for s in history.session_of.get(session, [])):
        ledger.report("I5", end.job_id, f"a leader closed attempt {claim.attempt} of session {session}, which lived")
    elif session in wrong:
        ledger.report("I5", end.job_id, f"a leader closed attempt {claim.attempt} wrongly: {wrong[session]}")


# ---------------------------------------------------------------- I6


def _check_runs(history: History, ledger: Ledger) -> None:
    traced = {history.row_of[job].task for job in history.signs_of if job in history.row_of}
    for events in history.events_of.values():
        # A task that never writes to the trace is not one of the traffic's.
        if events[0].task in traced and events[-1].to_status == "completed":
            _check_completed(history, ledger, events)
    for job_id, attempts in history.signs_of.items():
        claimed = {e.attempt for e in history.events_of.get(job_id, []) if e.move == CLAIM}
        for attempt, signs in attempts.items():
            ledger.require("I6", job_id, attempt in claimed, f"attempt {attempt} ran without a claim")
            starts = sum(s.what == "start" for s in signs)
            ledger.require("I6", job_id, starts <= 1, f"attempt {attempt} was started {starts} times")
        _check_overlaps(ledger, job_id, attempts)


def _check_completed(history: History, ledger: Ledger, events: list[AuditEvent]) -> None:
    ledger.count("I6")
    end = events[-1]
    last = max((e.attempt for e in events if e.move == CLAIM), default=0)
    message = f"attempt {end.attempt} completed, but the last claim is attempt {last}"
    ledger.require("I6", end.job_id, end.attempt == last, message)
    signs = {s.what: s for s in history.signs_of.get(end.job_id, {}).get(end.attempt, [])}
    for what in ("start", "end"):
        ledger.require(
            "I6", end.job_id, what in signs, f"attempt {end.attempt} completed without a trace of its {what}"
        )
    if "end" in signs:
        early = signs["end"].at - end.at
        message = f"attempt {end.attempt} was recorded as completed {early:.3f} s before it ended"
        ledger.require("I6", end.job_id, early <= CLOCKS, message)


def _check_overlaps(ledger: Ledger, job_id: int, attempts: dict[int, list[Sign]]) -> None:
    spans = sorted((signs[0].at, signs[-1].at, attempt) for attempt, signs in attempts.items())
    for (_, until, earlier), (since, _, later) in pairwise(spans):
        message = f"attempts {earlier} and {later} ran at the same time: {since:.3f} to {until:.3f}"
        ledger.require("I6", job_id, until < since, message)


# ---------------------------------------------------------------- I12


def _check_limits(ledger: Ledger, events: list[AuditEvent], row: JobRow) -> None:
    ledger.count("I12")
    losses = SUSPECT_AFTER + LONE_LOSS_LIMIT
    limits = {"failures": row.max_retries + 1, "crashes": CRASH_LIMIT, "losses": losses}
    for name, limit in limits.items():
        most = max(getattr(record, name) for record in (row, *events))
        ledger.require("I12", row.id, most <= limit, f"{most} {name}, and {limit} are the limit")
    for before, after in pairwise(events):
        if after.move == ("running", "pending"):
            _check_backoff(ledger, before, after, row)


def _check_backoff(ledger: Ledger, before: AuditEvent, after: AuditEvent, row: JobRow) -> None:
    """Check the wait before a retry. It is counted within the settling statement, so from its beginning it is never shorter."""
    for name in ("failures", "crashes"):
        count = getattr(after, name)
        if count <= getattr(before, name):
            continue
        ledger.count("I12")
        least = row.backoff.delay(count, draw=lambda: 0.0)
        waited = after.schedule_at - after.statement_at
        message = f"after {count} {name} it is due again in {waited:.3f} s; the backoff is at least {least:.3f} s"
        ledger.require("I12", row.id, waited >= least - ROUNDING, message)


def _check_snoozes(history: History, ledger: Ledger, events: list[AuditEvent]) -> None:
    """Check that a snooze costs no retry and that the job waits for the given time, unless the attempt ended otherwise."""
    for attempt, signs in history.signs_of.get(events[0].job_id, {}).items():
        seconds = next((float(sign.detail[0]) for sign in signs if sign.what == "snooze"), None)
        ends = [pair for pair in pairwise(events) if pair[0].to_status == "running" and pair[1].attempt == attempt]
        if seconds is None or not ends:
            continue
        ledger.count("I12")
        before, after = ends[0]
        ledger.require("I12", after.job_id, after.failures == before.failures, f"attempt {attempt} snoozed: a failure")
        if after.to_status == "pending" and after.schedule_at != before.schedule_at and after.crashes == before.crashes:
            rest = after.schedule_at - after.statement_at
            message = f"attempt {attempt} snoozed for {seconds:g} s, and is due again in {rest:.3f} s"
            ledger.require("I12", after.job_id, rest >= seconds - ROUNDING, message)
