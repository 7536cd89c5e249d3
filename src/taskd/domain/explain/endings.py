"""Checks for jobs that ended: the end, a task that still runs, and the job that retries it."""

from __future__ import annotations

from typing import Any

from taskd.domain.explain import reasons as why
from taskd.domain.explain.explanation import Finding
from taskd.domain.explain.situation import JobSnapshot, Situation
from taskd.domain.job import JobStatus
from taskd.domain.phrases import main_line, moment, times


def ended(situation: Situation) -> Finding:
    """Describe the end of the job."""
    job = situation.job
    words: dict[str, Any] = {
        "at": moment(job.completed_at or job.now),
        "attempt": job.attempt,
        "worker": job.worker_id,
        "error": main_line(job.error),
    }
    detail = {
        "completed_at": job.completed_at,
        "attempt": job.attempt or None,
        "worker_id": job.worker_id,
        "outcome": job.outcome,
        "error": main_line(job.error) if job.error else None,
        "failures": job.failures,
        "max_retries": job.max_retries,
    }
    match job.status:
        case JobStatus.COMPLETED:
            return Finding(why.COMPLETED, words, detail)
        case JobStatus.FAILED:
            return Finding(why.FAILED, {**words, "why": _for_good(job)}, detail)
    if situation.stopping:
        return Finding(why.STOPPING, words, detail)
    return Finding(why.CANCELLED, {**words, "when": _cancelled(job)}, detail)


def retried(situation: Situation) -> Finding | None:
    """Name the job that retries this one."""
    job = situation.job.retried_as
    return Finding(why.RETRIED, {"job": job}, {"retried_as": job}) if job is not None else None


def _for_good(job: JobSnapshot) -> str:
    if job.outcome == "lost":
        return f"after losing its worker {times(job.losses)}"
    if job.outcome == "crashed":
        return f"after crashing its executor {times(job.crashes)}"
    if job.failures <= job.max_retries:
        return f"since attempt {job.attempt} said that trying again is of no use"
    return f"after failing {times(job.failures)}"


def _cancelled(job: JobSnapshot) -> str:
    if job.outcome == "cancelled":
        return f"as attempt {job.attempt} ran on {job.worker_id}"
    return f"as it waited after attempt {job.attempt}" if job.attempt else "before it ever ran"
