"""Timelines: the stages of a job one after another, from its submit on, with their durations."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal

import msgspec

from taskd.domain.job import Job, JobStatus

State = Literal["pending", "queued", "running"]
#: The reason for which a job waits after an attempt with this outcome.
AFTER = {
    "failed": "until its retry",
    "timed_out": "until its retry",
    "crashed": "until its retry",
    "snoozed": "snoozed",
    # Nothing but a busy worker makes a lost job due later (put_off.sql).
    "lost": "put off by a busy worker: it runs alone",
}
TURN, DELIVERY = "due, waits for its turn", "on its way to a worker"


class Stage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A stretch of time in one state. `until` is None while it lasts; `why`: what it waited for, or how the attempt ended."""

    state: State
    since: datetime
    seconds: float
    why: str
    until: datetime | None = None
    attempt: int | None = None


def timeline(job: Job, now: datetime) -> list[Stage]:
    """Return the stages of a job. A stage that lasts has its seconds up to `now`; one that took no time is left out."""
    stages: list[Stage] = []
    since, reason = job.created_at, "until it is due"
    for attempt in job.attempts:
        stages += _waits(since, attempt.schedule_at, attempt.queued_at, attempt.started_at, reason, now)
        outcome = attempt.outcome or ("runs" if attempt.ended_at is None else "ended")
        stages.append(_stage("running", attempt.started_at, attempt.ended_at, outcome, now, attempt.attempt))
        since, reason = attempt.ended_at or now, AFTER.get(attempt.outcome or "", "until it is due")
    waits = job.status in (JobStatus.PENDING, JobStatus.QUEUED)
    if waits or (job.status is JobStatus.CANCELLED and job.worker_id is None):
        stages += _waits(since, job.schedule_at, job.queued_at, job.completed_at, reason, now)
    return [stage for stage in stages if stage.until is None or stage.seconds > 0]


def _waits(
    since: datetime, due: datetime | None, queued: datetime | None, over: datetime | None, reason: str, now: datetime
) -> Iterator[Stage]:
    """From one attempt's end (or the submit) to the next one's start: `over`, if that was yet."""
    steps: list[tuple[State, datetime | None, str]] = [("pending", due or since, reason)]
    if queued is None:
        steps.append(("pending", over, TURN))
    else:
        steps += [("pending", queued, TURN), ("queued", over, DELIVERY)]
    for state, end, why in steps:
        until = None if end is None else max(end, since)
        if over is not None:
            until = min(until or over, over)
        elif until is not None and until > now:
            until = None
        yield _stage(state, since, until, why, now)
        if until is None:
            return
        since = until


def _stage(
    state: State, since: datetime, until: datetime | None, why: str, now: datetime, attempt: int | None = None
) -> Stage:
    seconds = max(0.0, ((until or now) - since).total_seconds())
    return Stage(state, since, round(seconds, 3), why, until, attempt)
