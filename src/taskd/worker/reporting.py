"""What came of attempts, told: a line in the log, figures, and the end of a span."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from datetime import timedelta
from typing import Any

from prometheus_client import Counter as Total
from prometheus_client import Histogram

from taskd.domain.fencing import Claim
from taskd.domain.job import Scalar
from taskd.domain.outcome import Completed, Outcome, Snoozed
from taskd.domain.retry import Again
from taskd.runtime import meters, tracing
from taskd.runtime.tracing import Span
from taskd.seams import Settlement

Key = tuple[int, int]


class AttemptReporter:
    """Tells of the attempts of one worker. `known` are the names of its tasks."""

    def __init__(self, known: Callable[[], Collection[str]]) -> None:
        self._known = known
        self.tallies: Counter[str] = Counter()
        self._spans: dict[Key, Span] = {}
        self._meters: dict[tuple[str, str], tuple[Histogram, Total]] = {}

    def begun(self, claims: Iterable[Claim]) -> None:
        """These attempts begin now."""
        self._spans.update({_key(claim): span for claim in claims if (span := _traced(claim)) is not None})

    def metadata(self, claim: Claim) -> dict[str, Scalar]:
        """The job's, with the attempt's own trace, so that what the task does belongs to its attempt."""
        span = self._spans.get(_key(claim))
        return claim.metadata if span is None else {**claim.metadata, tracing.KEY: span.traceparent}

    def ended(self, settlement: Settlement, seconds: float, log: Any, *, ours: bool, unknown: bool) -> None:
        """The canonical line of an attempt. `ours`: it was recorded; `unknown`: or perhaps by a try whose answer was lost."""
        claim, outcome = settlement.claim, settlement.outcome
        name = str(outcome.__struct_config__.tag)
        if not ours and not unknown:
            self.tallies["fenced"] += 1
            meters.FENCED.inc()
            self._trace(claim, "fenced", seconds, "the claim had been lost")
            log.warning("attempt fenced off: the claim had been lost", **_line(claim, name, seconds))
            return
        self.tallies[name] += 1
        self._measure(claim.task, name, seconds)
        self._trace(claim, name, seconds, "" if isinstance(outcome, Completed | Snoozed) else _brief(outcome))
        if isinstance(outcome, Completed):
            if log.is_enabled_for(logging.INFO):  # where it is not, making the line would cost the most of all this
                log.info("attempt ended", **_line(claim, name, seconds))
        elif isinstance(outcome, Snoozed):
            log.info("attempt ended", **_line(claim, name, seconds), again=True, reason=outcome.reason)
        else:
            again = isinstance(settlement.verdict, Again)
            if again:
                meters.RETRIES.inc()
            error = getattr(outcome, "error", None)
            said = {} if error is None else {"error": error}  # a time-out has none
            log.warning("attempt ended", **_line(claim, name, seconds), again=again, **said)

    def cancelled(self, claim: Claim, seconds: float, log: Any) -> None:
        """The canonical line of an attempt whose job was cancelled under it, whatever it came to by itself."""
        self.tallies["cancelled"] += 1
        self._trace(claim, "cancelled", seconds)
        self._measure(claim.task, "cancelled", seconds)
        log.info("attempt ended", **_line(claim, "cancelled", seconds))

    def _trace(self, claim: Claim, outcome: str, seconds: float, error: str = "") -> None:
        span = self._spans.pop(_key(claim), None)
        if span is not None:
            span.end(at=claim.started_at + timedelta(seconds=seconds), error=error, outcome=outcome)

    def _measure(self, task: str, outcome: str, seconds: float) -> None:
        if task not in self._known():
            task = "unknown"  # names are the clients' choice, and each makes a series
        meter = self._meters.get((task, outcome))
        if meter is None:  # looking labels up costs more than observing
            meter = meters.RUN.labels(task), meters.ATTEMPTS.labels(task, outcome)
            self._meters[task, outcome] = meter
        meter[0].observe(seconds)
        meter[1].inc()


def _traced(claim: Claim) -> Span | None:
    """The attempt's span, after those of the way that it came; None for a job without a trace, and where no spans are made."""
    parent = tracing.thread(claim.metadata.get(tracing.KEY))
    if parent is None:
        return None
    about: dict[str, str | int] = {"job": claim.job_id, "task": claim.task, "queue": claim.queue, "epoch": claim.epoch}
    for name, start, over in (
        ("taskd.dispatch", claim.schedule_at, claim.queued_at),
        ("taskd.deliver", claim.queued_at, claim.started_at),
    ):
        way = tracing.begin(name, parent, about, at=start)
        if way is not None:
            way.end(at=over)
    return tracing.begin("taskd.attempt", parent, {**about, "attempt": claim.attempt}, at=claim.started_at)


def _brief(outcome: Outcome) -> str:
    """The last line of an error, or how else it ended."""
    lines = str(getattr(outcome, "error", "")).strip().splitlines()
    return lines[-1][:200] if lines else str(outcome.__struct_config__.tag)


def _line(claim: Claim, outcome: str, seconds: float) -> dict[str, object]:
    return {
        "job": claim.job_id,
        "attempt": claim.attempt,
        "task": claim.task,
        "queue": claim.queue,
        "outcome": outcome,
        "epoch": claim.epoch,
        "wait_seconds": round((claim.started_at - claim.schedule_at).total_seconds(), 4),
        "run_seconds": round(seconds, 4),
    }


def _key(claim: Claim) -> Key:
    return claim.job_id, claim.attempt
