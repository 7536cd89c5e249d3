"""Checks for the past of a waiting job: its last attempt, and the time that it waits for."""

from __future__ import annotations

from typing import Any

from taskd.domain.explain import reasons as why
from taskd.domain.explain.explanation import Estimate, Finding
from taskd.domain.explain.situation import JobSnapshot, Situation
from taskd.domain.job import Attempt, JobStatus
from taskd.domain.phrases import main_line, moment, span, times
from taskd.domain.retry import CRASH_LIMIT

#: Words for the outcomes of attempts that are retried.
ENDED = {"failed": "failed", "timed_out": "ran out of its time", "crashed": "crashed its executor"}


def put_off(situation: Situation) -> Finding | None:
    """Find a job that only runs alone and that a busy worker put off: after a loss or a release, nothing else makes it wait."""
    job, last = situation.job, situation.job.last
    if not job.runs_alone or last is None or last.outcome in (*ENDED, "snoozed"):
        return None
    words = {"losses": job.losses, "now": f"none was free, and it is offered again at {moment(job.schedule_at)}"}
    return Finding(why.NEEDS_WORKER, words, {"losses": job.losses, "due_at": job.schedule_at})


def not_yet(situation: Situation) -> Finding:
    """Describe why the job is not due: it is scheduled, snoozed, or waits for its retry."""
    job, last = situation.job, situation.job.last
    wait = (job.schedule_at - job.now).total_seconds()
    words: dict[str, Any] = {"at": moment(job.schedule_at), "wait": span(wait)}
    detail: dict[str, Any] = {"due_at": job.schedule_at}
    if last is not None:
        words |= {"attempt": last.attempt, "error": main_line(last.error)}
        detail |= _attempt(job, last)
    estimate = Estimate(round(wait, 1), "until it is due; how soon it starts then depends on free slots", at_least=True)
    if last is not None and last.outcome == "snoozed":
        return Finding(why.SNOOZED, words, detail, estimate)
    if last is not None and last.outcome in ENDED:
        words |= {"ended": ENDED[last.outcome], "left": _left(job, last)}
        return Finding(why.RETRY, words, detail, estimate)
    return Finding(why.SCHEDULED, words, detail, estimate)


def before(situation: Situation) -> Finding | None:
    """Describe how the last attempt ended, for a job that is due again."""
    job, last = situation.job, situation.job.last
    if last is None:
        return None
    words = {"attempt": last.attempt, "error": main_line(last.error), "worker": last.worker_id}
    match last.outcome:
        case "released":
            return Finding(why.RELEASED, words, _attempt(job, last))
        case "lost":
            return Finding(why.LOST, words, _attempt(job, last))
        case "failed" | "timed_out" | "crashed":
            return Finding(why.FAILED_BEFORE, {**words, "ended": ENDED[last.outcome]}, _attempt(job, last))
    return None


def rung_again(situation: Situation) -> Finding | None:
    """Find lost entries: each dispatch is used up by one claim or by one lost entry."""
    job = situation.job
    if job.runs_alone:
        return None  # busy workers put it off, which uses up dispatches too
    lost = job.dispatch_seq - job.attempt - (job.status is JobStatus.QUEUED)
    return Finding(why.RUNG_AGAIN, {"times": times(lost)}) if lost > 0 else None


def _attempt(job: JobSnapshot, last: Attempt) -> dict[str, Any]:
    return {
        "attempt": last.attempt,
        "outcome": last.outcome,
        "error": main_line(last.error) if last.error else None,
        "failures": job.failures,
        "max_retries": job.max_retries,
    }


def _left(job: JobSnapshot, last: Attempt) -> str:
    crashed = last.outcome == "crashed"
    left = CRASH_LIMIT - 1 - job.crashes if crashed else job.max_retries - job.failures
    what = "crash" if crashed else "fail"
    if left <= 0:
        return f"the next {'crash' if crashed else 'failure'} is final"
    return f"it may {what} {times(left)} more"
