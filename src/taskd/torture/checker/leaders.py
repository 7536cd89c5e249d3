"""I7, I8: the terms of each shard, and what was dispatched and claimed under them."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from taskd.domain.policy import SUSPECT_AFTER
from taskd.domain.shard import shard_of
from taskd.torture.checker.ledger import Ledger
from taskd.torture.history import AuditEvent, History, TermEvent

LEADER = "taskd:leader:"
#: A worker's connection for claims.
WORKER = "taskd:claim:"
DISPATCH, CLAIM, REOFFER = ("pending", "queued"), ("queued", "running"), ("queued", "pending")
#: Seconds between a commit's recorded time and its effect.
COMMITS = 0.005


class TermSpan(NamedTuple):
    """One term: from its takeover to its resignation or the next takeover of the shard."""

    since: float
    until: float
    epoch: int
    holder: str | None
    shard: int = 0
    shards: int = 1

    def owns(self, event: AuditEvent) -> bool:
        """Return True if the event is this shard's duty. Shard 0 makes schedules' jobs, and frees those of dead workers."""
        shard = 0 if event.from_status in (None, "running") else shard_of(event.queue, self.shards)
        return self.shard == shard


class TermSpans:
    """All terms. A holder leads one shard only."""

    def __init__(self, spans: Iterable[TermSpan]) -> None:
        self._spans: dict[int, list[TermSpan]] = defaultdict(list)
        self._shard_of: dict[str | None, int] = {}
        for span in spans:
            self._spans[span.shard].append(span)
            self._shard_of[span.holder] = span.shard

    def of(self, holder: str, at: float) -> TermSpan | None:
        """Return the holder's term at that time; None if it had none."""
        spans = self._spans[self._shard_of.get(holder, 0)]
        index = bisect_right(spans, at, key=lambda span: span.since) - 1
        span = spans[index] if index >= 0 else None
        return span if span and span.holder == holder and at <= span.until else None


def check(history: History, ledger: Ledger) -> None:
    """Check each term, and each event that a leader wrote."""
    for terms in _by_shard(history):
        _check_epochs(terms, ledger)
    spans = TermSpans(term_spans(history))
    _check_reapings(history, ledger, spans)
    for events in history.events_of.values():
        for event in events:
            if event.by.startswith(LEADER):
                _check_writer(ledger, event, spans)
            elif event.move in (DISPATCH, REOFFER) and not _put_off(event):
                ledger.report("I7", event.job_id, f"{event.from_status} -> {event.to_status} was made by {event.by}")
        _check_dispatches(ledger, events)


def _put_off(event: AuditEvent) -> bool:
    """Return True for a job that only runs alone and that a busy worker put off."""
    return event.move == REOFFER and event.losses >= SUSPECT_AFTER and event.by.startswith(WORKER)


def _check_reapings(history: History, ledger: Ledger, spans: TermSpans) -> None:
    for event in history.sessions:
        if event.what == "end" and event.by.startswith(LEADER):
            ledger.count("I7")
            holder = event.by.removeprefix(LEADER)
            span = spans.of(holder, event.at)
            message = f"the session of {event.worker_id} was ended by {holder} outside its terms of shard 0, at {event.at:.6f}"
            ledger.require("I7", None, span is not None and span.shard == 0, message)


def term_spans(history: History) -> list[TermSpan]:
    """Return all terms, by shard and time."""
    spans: list[TermSpan] = []
    for terms in _by_shard(history):
        for term, after in zip(terms, [*terms[1:], None], strict=False):
            if term.what == "takeover":
                until = after.at if after else float("inf")
                spans.append(TermSpan(term.at, until, term.epoch, term.holder, term.shard, term.shards))
    return spans


def _by_shard(history: History) -> list[list[TermEvent]]:
    """Return the terms of each shard, by time."""
    terms: dict[int, list[TermEvent]] = defaultdict(list)
    for term in sorted(history.terms, key=lambda t: t.at):
        terms[term.shard].append(term)
    return [terms[shard] for shard in sorted(terms)]


def _check_epochs(terms: list[TermEvent], ledger: Ledger) -> None:
    last: TermEvent | None = None
    for term in terms:
        ledger.count("I7")
        if term.what == "resign":
            held = last is not None and (last.epoch, last.holder) == (term.epoch, term.holder)
            ledger.require("I7", None, held, f"{term.holder} resigned from epoch {term.epoch}, which it did not hold")
        elif last is not None:
            message = f"epoch {term.epoch} of {term.holder} came after epoch {last.epoch} of {last.holder}"
            ledger.require("I7", None, term.epoch == last.epoch + 1, message)
        last = term


def _check_writer(ledger: Ledger, event: AuditEvent, spans: TermSpans) -> None:
    ledger.count("I7")
    holder = event.by.removeprefix(LEADER)
    what = f"{event.from_status} -> {event.to_status} by {holder}"
    span = spans.of(holder, event.at)
    if span is None:
        ledger.report("I7", event.job_id, f"{what} was written outside its terms, at {event.at:.6f}")
    elif not span.owns(event):
        where = f"shard {span.shard} of {span.shards}"
        ledger.report(
            "I7", event.job_id, f"{what}, the leader of {where}, is another shard's duty: queue {event.queue!r}"
        )
    elif event.committed is not None and event.committed > span.until + COMMITS:
        late = event.committed - span.until
        ledger.report("I7", event.job_id, f"{what} was committed {late:.6f} s after epoch {span.epoch} had ended")
    elif event.epoch not in (None, span.epoch):
        ledger.report("I7", event.job_id, f"{what} carries epoch {event.epoch} within epoch {span.epoch}")


def _check_dispatches(ledger: Ledger, events: list[AuditEvent]) -> None:
    dispatched, schedule_at = 0, events[0].schedule_at
    cancelled = False
    for event in events:
        if event.to_status == "queued":
            _check_dispatch(ledger, event, schedule_at, dispatched, cancelled=cancelled)
            dispatched = event.dispatch_seq or 0
        elif event.move == CLAIM:
            ledger.count("I8")
            message = f"attempt {event.attempt} claims dispatch {event.dispatch_seq}; the last one is {dispatched}"
            ledger.require("I8", event.job_id, event.dispatch_seq == dispatched, message)
        schedule_at = event.schedule_at
        cancelled = cancelled or event.to_status == "cancelled"


def _check_dispatch(ledger: Ledger, event: AuditEvent, due: float, before: int, *, cancelled: bool) -> None:
    ledger.count("I8")
    early = due - event.statement_at
    message = f"dispatch {event.dispatch_seq} came {early:.6f} s before it was due"
    ledger.require("I8", event.job_id, early <= 0, message)
    message = f"dispatch {event.dispatch_seq} came after dispatch {before}"
    ledger.require("I8", event.job_id, event.dispatch_seq == before + 1, message)
    ledger.require("I8", event.job_id, not cancelled, f"dispatch {event.dispatch_seq} came after the cancel")
