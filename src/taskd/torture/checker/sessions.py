"""I15, I17: workers' sessions, and what became of them after SIGTERM."""

from __future__ import annotations

from collections import defaultdict

from taskd.torture.checker.disturbance import POSTGRES, Window, windows
from taskd.torture.checker.leaders import LEADER, reigns_of
from taskd.torture.checker.ledger import Ledger
from taskd.torture.history import AuditEvent, Fault, History, SessionEvent

#: What takes PostgreSQL down together with everybody's connections.
KILLS = frozenset({"SIGKILL", "SIGQUIT", "SIGINT", "stop", "kill"})
#: Leases are waited for by a process's own clock, which may run a little apart from PostgreSQL's.
CLOCKS = 0.1
#: An outage this long is noticed by every leader, which then waits a whole lease before it reaps.
NOTICED = 3.0
#: PostgreSQL may have answered a little before its start was written down.
WRITTEN = 2.0
#: A claim that was on its way when SIGTERM came may still arrive.
IN_FLIGHT = 1.0
#: Seconds that a worker may take beyond its grace, to settle and to leave.
LEAVING = 5.0


def check(history: History, ledger: Ledger) -> None:
    """Look at each session and at each SIGTERM of a worker."""
    wrong = wrongly_ended(history)
    for session, events in history.session_of.items():
        ledger.look("I15")
        if session in wrong:
            ledger.blame("I15", None, wrong[session])
        _check_revival(ledger, session, events)
    _check_terminations(history, ledger)


# ---------------------------------------------------------------- I15


def wrongly_ended(history: History) -> dict[str, str]:
    """The sessions that a leader ended without the right to, and why it had none."""
    patience = _patience(history)
    found: dict[str, str] = {}
    for session, events in history.session_of.items():
        expires_at = 0.0
        for event in events:
            if event.what != "end":
                expires_at = event.expires_at
            elif event.by.startswith(LEADER) and (why := _objection(event, expires_at, patience)):
                found[session] = f"session {session} of {event.worker_id} was ended by a leader {why}"
    return found


def _objection(end: SessionEvent, expires_at: float, patience: list[tuple[float, float, str]]) -> str | None:
    if end.at <= expires_at:
        return f"{expires_at - end.at:.3f} s before its lease ran out"
    for since, until, reason in patience:
        if since <= end.at < until:
            return f"{end.at - since:.3f} s after {reason}, before a lease had passed"
    return None


def _patience(history: History) -> list[tuple[float, float, str]]:
    """The times in which no leader may end a session: one lease after each takeover, of shard 0, whose duty it is, and after
    each outage of PostgreSQL.
    """
    lease = history.meta.session_ttl
    reigns = [reign for reign in reigns_of(history) if reign.shard == 0]
    found = [(r.since, r.since + lease - CLOCKS, f"the takeover of epoch {r.epoch}") for r in reigns]
    for outage in _outages(history):
        since = outage.end - WRITTEN
        found.append((since, since + lease, "an outage of PostgreSQL"))
    return found


def _outages(history: History) -> list[Window]:
    """The times when PostgreSQL was down for so long that every leader noticed."""
    own = [f for f in history.faults if f.target == POSTGRES]
    kills = {f.at for f in own if f.what in KILLS}
    starts = {f.until for f in own} | {f.at for f in own if f.what in ("restart", "start")}
    downs = [w for w in windows(history, POSTGRES) if w.start in kills and w.end in starts]
    return [w for w in downs if w.end - w.start >= NOTICED]


def _check_revival(ledger: Ledger, session: str, events: list[SessionEvent]) -> None:
    ended = False
    for event in events:
        if ended:
            ledger.blame("I15", None, f"session {session} of {event.worker_id} was over, and then came {event.what!r}")
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
            ledger.look("I17")
            _check_termination(history, ledger, fault, claims[fault.target])


def _check_termination(history: History, ledger: Ledger, term: Fault, claims: list[AuditEvent]) -> None:
    later = [f for f in history.faults if f.pid == term.pid and f.at >= term.at]
    end = next((f.at for f in later if f.what in ("exit", "SIGKILL")), None)
    successor = next((s.at for s in history.sessions if _opens_after(s, term)), float("inf"))
    until = min(end if end is not None else float("inf"), successor)
    for claim in claims:
        if term.at + IN_FLIGHT < claim.at <= until and not _held_up(history, term.at, claim.at):
            message = f"{term.target} claimed it {claim.at - term.at:.3f} s after its SIGTERM"
            ledger.blame("I17", claim.job_id, message)
    if any(f.what in ("SIGKILL", "SIGSTOP") for f in later):
        return
    limit = history.meta.grace + LEAVING
    took = end - term.at if end is not None else float("inf")
    message = f"{term.target} (pid {term.pid}) took {took:.1f} s to exit after SIGTERM; {limit:g} s are the limit"
    ledger.demand("I17", None, took <= limit, message)


def _opens_after(event: SessionEvent, term: Fault) -> bool:
    return event.what == "open" and event.worker_id == term.target and event.at > term.at + IN_FLIGHT


def _held_up(history: History, since: float, until: float) -> bool:
    """True if a claim may have been under way all that time: PostgreSQL, or the way to it, stood still."""
    return any(w.touches(since - IN_FLIGHT, until) for w in windows(history, POSTGRES))
