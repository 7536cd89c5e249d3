"""Reports the ends of attempts: a line in the log, metrics, and the end of a span."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from datetime import timedelta
from typing import Any

from prometheus_client import Counter as Total
from prometheus_client import Histogram

from taskd.domain.fencing import Claim
from taskd.domain.job import AttemptId, Scalar
from taskd.domain.outcome import Completed, Outcome, Snoozed
from taskd.domain.retry import Again
from taskd.runtime import meters, tracing
from taskd.runtime.tracing import Span
from taskd.seams import Settlement


class AttemptReporter:
    """Reports the attempts of one worker. `known` returns the names of its tasks."""

    def __init__(self, known: Callable[[], Collection[str]]) -> None:
        self._known = known
        self.tallies: Counter[str] = Counter()
        self._spans: dict[AttemptId, Span] = {}
        self._meters: dict[tuple[str, str], tuple[Histogram, Total]] = {}

    def begun(self, claims: Iterable[Claim]) -> None:
        """Begin the spans of attempts that begin now."""
        self._spans.update({claim.attempt_id: span for claim in claims if (span := _traced(claim)) is not None})

    def metadata(self, claim: Claim) -> dict[str, Scalar]:
        """Return the job's metadata, with the attempt's span as trace: spans that the task begins are below it."""
        span = self._spans.get(claim.attempt_id)
        return claim.job.metadata if span is None else {**claim.job.metadata, tracing.KEY: span.traceparent}

    def ended(self, settlement: Settlement, seconds: float, log: Any, *, settled: bool, unknown: bool) -> None:
        """Report an attempt's end. `settled`: it was recorded. `unknown`: a try whose answer was lost may have recorded it."""
        claim, outcome = settlement.claim, settlement.outcome
        name = str(outcome.__struct_config__.tag)
        if not settled and not unknown:
            self.tallies["fenced"] += 1
            meters.FENCED.inc()
            self._trace(claim, "fenced", seconds, "the claim had been lost")
            log.warning("attempt fenced off: the claim had been lost", **_line(claim, name, seconds))
            return
        self.tallies[name] += 1
        self._measure(claim.job.task, name, seconds)
        self._trace(claim, name, seconds, "" if isinstance(outcome, Completed | Snoozed) else _brief(outcome))
        if isinstance(outcome, Completed):
            if log.is_enabled_for(logging.INFO):  # making the line costs the most here
                log.info("attempt ended", **_line(claim, name, seconds))
        elif isinstance(outcome, Snoozed):
            log.info("attempt ended", **_line(claim, name, seconds), again=True, reason=outcome.reason)
        else:
            again = isinstance(settlement.verdict, Again)
            if again:
                meters.RETRIES.inc()
            error = getattr(outcome, "error", None)
            fields = {} if error is None else {"error": error}  # a time-out has none
            log.warning("attempt ended", **_line(claim, name, seconds), again=again, **fields)

    def cancelled(self, claim: Claim, seconds: float, log: Any) -> None:
        """Report the end of an attempt whose job was cancelled while it ran, whatever its own outcome."""
        self.tallies["cancelled"] += 1
        self._trace(claim, "cancelled", seconds)
        self._measure(claim.job.task, "cancelled", seconds)
        log.info("attempt ended", **_line(claim, "cancelled", seconds))

    def _trace(self, claim: Claim, outcome: str, seconds: float, error: str = "") -> None:
        span = self._spans.pop(claim.attempt_id, None)
        if span is not None:
            span.end(at=claim.started_at + timedelta(seconds=seconds), error=error, outcome=outcome)

    def _measure(self, task: str, outcome: str, seconds: float) -> None:
        if task not in self._known():
            task = "unknown"  # clients choose the names, and each makes a series
        meter = self._meters.get((task, outcome))
        if meter is None:  # to look labels up costs more than to observe
            meter = meters.RUN.labels(task), meters.ATTEMPTS.labels(task, outcome)
            self._meters[task, outcome] = meter
        meter[0].observe(seconds)
        meter[1].inc()


def _traced(claim: Claim) -> Span | None:
    """Make the spans of dispatch and delivery, and begin the attempt's; None for a job without a trace, or without tracing."""
    parent = tracing.thread(claim.job.metadata.get(tracing.KEY))
    if parent is None:
        return None
    about: dict[str, str | int] = {
        "job": claim.job_id,
        "task": claim.job.task,
        "queue": claim.job.queue,
        "epoch": claim.epoch,
    }
    for name, start, end in (
        ("taskd.dispatch", claim.job.schedule_at, claim.queued_at),
        ("taskd.deliver", claim.queued_at, claim.started_at),
    ):
        span = tracing.begin(name, parent, about, at=start)
        if span is not None:
            span.end(at=end)
    return tracing.begin("taskd.attempt", parent, {**about, "attempt": claim.attempt}, at=claim.started_at)


def _brief(outcome: Outcome) -> str:
    """Return the last line of an error, or the name of the outcome if it has none."""
    lines = str(getattr(outcome, "error", "")).strip().splitlines()
    return lines[-1][:200] if lines else str(outcome.__struct_config__.tag)


def _line(claim: Claim, outcome: str, seconds: float) -> dict[str, object]:
    return {
        "job": claim.job_id,
        "attempt": claim.attempt,
        "task": claim.job.task,
        "queue": claim.job.queue,
        "outcome": outcome,
        "epoch": claim.epoch,
        "wait_seconds": round((claim.started_at - claim.job.schedule_at).total_seconds(), 4),
        "run_seconds": round(seconds, 4),
    }
