"""I15, I17: workers' sessions, and workers after SIGTERM."""

from __future__ import annotations

from collections import defaultdict

from taskd.torture.checker.disturbance import POSTGRES, Window, windows
from taskd.torture.checker.leaders import LEADER, term_spans
from taskd.torture.checker.ledger import Ledger
from taskd.torture.history import AuditEvent, Fault, History, SessionEvent

#: The faults that end PostgreSQL together with all connections.
KILLS = frozenset({"SIGKILL", "SIGQUIT", "SIGINT", "stop", "kill"})
#: Seconds. A process waits for leases by its own clock, which may differ a little from PostgreSQL's.
CLOCKS = 0.1
#: Seconds. Every leader notices an outage this long, and then waits a whole lease before it reaps.
NOTICED = 3.0
#: Seconds by which PostgreSQL may have answered before its start was recorded.
WRITTEN = 2.0
#: Seconds within which a claim that was under way at SIGTERM may still arrive.
IN_FLIGHT = 1.0
#: Seconds that a worker may take beyond its grace, to settle and to leave.
LEAVING = 5.0


def check(history: History, ledger: Ledger) -> None:
    """Check each session and each SIGTERM of a worker."""
    wrong = wrongly_ended(history)
    for session, events in history.session_of.items():
        ledger.count("I15")
        if session in wrong:
            ledger.report("I15", None, wrong[session])
        _check_revival(ledger, session, events)
    _check_terminations(history, ledger)


# ---------------------------------------------------------------- I15


def wrongly_ended(history: History) -> dict[str, str]:
    """Return the sessions that a leader ended without the right to, with the objection."""
    patience = _patience(history)
    wrong: dict[str, str] = {}
    for session, events in history.session_of.items():
        expires_at = 0.0
        for event in events:
            if event.what != "end":
                expires_at = event.expires_at
            elif event.by.startswith(LEADER) and (objection := _objection(event, expires_at, patience)):
                wrong[session] = f"session {session} of {event.worker_id} was ended by a leader {objection}"
    return wrong


def _objection(end: SessionEvent, expires_at: float, patience: list[tuple[float, float, str]]) -> str | None:
    if end.at <= expires_at:
        return f"{expires_at - end.at:.3f} s before its lease ran out"
    for since, until, reason in patience:
        if since <= end.at < until:
            return f"{end.at - since:.3f} s after {reason}, before a lease had passed"
    return None


def _patience(history: History) -> list[tuple[float, float, str]]:
    """Return the times in which no leader may end a session, each as (from, until, reason).

    One lease after each takeover of shard 0, whose leader reaps, and one lease after each outage of PostgreSQL.
    """
    lease = history.meta.session_ttl
    spans = [span for span in term_spans(history) if span.shard == 0]
    times = [(span.since, span.since + lease - CLOCKS, f"the takeover of epoch {span.epoch}") for span in spans]
    for outage in _outages(history):
        since = outage.end - WRITTEN
        times.append((since, since + lease, "an outage of PostgreSQL"))
    return times


def _outages(history: History) -> list[Window]:
    """Return the times when PostgreSQL was down for so long that every leader noticed."""
    faults = [fault for fault in history.faults if fault.target == POSTGRES]
    kills = {fault.at for fault in faults if fault.what in KILLS}
    starts = {fault.until for fault in faults} | {fault.at for fault in faults if fault.what in ("restart", "start")}
    downs = [w for w in windows(history, POSTGRES) if w.start in kills and w.end in starts]
    return [w for w in downs if w.end - w.start >= NOTICED]


def _check_revival(ledger: Ledger, session: str, events: list[SessionEvent]) -> None:
    ended = False
    for event in events:
        if ended:
            ledger.report("I15", None, f"session {session} of {event.worker_id} was over, and then came {event.what!r}")
        ended = ended or event.what == "end"


# ---------------------------------------------------------------- I17


def _check_terminations(history: History, ledger: Ledger) -> None:
    workers = {event.worker_id for event in history.sessions}
    claims: dict[str, list[AuditEvent]] = defaultdict(list)
    for event in history.events:
        if event.to_status == "running" and event.worker_id is not None:
            claims[event.worker_id].append(event)
    for fault in history.faults:
        if fault.what == "SIGTERM" and fault.target in workers:
            ledger.count("I17")
            _check_termination(history, ledger, fault, claims[fault.target])


def _check_termination(history: History, ledger: Ledger, term: Fault, claims: list[AuditEvent]) -> None:
    later = [f for f in history.faults if f.pid == term.pid and f.at >= term.at]
    end = next((f.at for f in later if f.what in ("exit", "SIGKILL")), None)
    successor = next((s.at for s in history.sessions if _opens_after(s, term)), float("inf"))
    until = min(end if end is not None else float("inf"), successor)
    for claim in claims:
        if term.at + IN_FLIGHT < claim.at <= until and not _held_up(history, term.at, claim.at):
            message = f"{term.target} claimed it {claim.at - term.at:.3f} s after its SIGTERM"
            ledger.report("I17", claim.job_id, message)
    if any(f.what in ("SIGKILL", "SIGSTOP") for f in later):
        return
    limit = history.meta.grace + LEAVING
    took = end - term.at if end is not None else float("inf")
    message = f"{term.target} (pid {term.pid}) took {took:.1f} s to exit after SIGTERM; {limit:g} s are the limit"
    ledger.require("I17", None, took <= limit, message)


def _opens_after(event: SessionEvent, term: Fault) -> bool:
    return event.what == "open" and event.worker_id == term.target and event.at > term.at + IN_FLIGHT


def _held_up(history: History, since: float, until: float) -> bool:
    """Return True if a claim may have been under way all that time: PostgreSQL, or the link to it, was frozen."""
    return any(w.touches(since - IN_FLIGHT, until) for w in windows(history, POSTGRES))
