"""Jobs as JSON: every field that is not null, times in UTC."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from taskd.domain.job import Attempt, Job, JobSpec, JobStatus, Submitted
from taskd.domain.submission import RESERVED_PREFIX as PREFIX
from taskd.domain.timeline import timeline

_encoder = msgspec.json.Encoder()
_ZERO = timedelta(0)
_TIMES = ("created_at", "schedule_at", "queued_at", "started_at", "completed_at")


def job(job: Job) -> bytes:
    """Return one job, always with its attempts."""
    text = _encoder.encode(_public(job))
    return text if job.attempts else text[:-1] + b',"attempts":[]}'


def summary(job: Job) -> bytes:
    """Return one job for a caller that may change it and not read it."""
    return _encoder.encode({"id": job.id, "status": job.status})


def with_timeline(shown: Job, now: datetime) -> bytes:
    """Return one job with its attempts, and the time that it spent in each state up to `now`."""
    return job(shown)[:-1] + b',"timeline":' + _encoder.encode(timeline(_public(shown), utc(now))) + b"}"


def jobs(page: Sequence[Job]) -> bytes:
    """Return a page of jobs."""
    return _encoder.encode([_public(job) for job in page])


def submitted(spec: JobSpec, stored: Submitted) -> bytes:
    """Return a job that was stored just now."""
    return _encoder.encode(
        Job(
            id=stored.id,
            status=JobStatus.PENDING,
            task=spec.task,
            queue=spec.queue,
            priority=spec.priority,
            payload=spec.payload,
            created_at=utc(stored.created_at),
            schedule_at=utc(stored.schedule_at),
            attempt=0,
            max_retries=spec.max_retries,
            timeout=spec.timeout,
            metadata=spec.metadata or None,
            dedupe_key=None if (spec.dedupe_key or "").startswith(PREFIX) else spec.dedupe_key,
            parent_id=spec.parent_id,
        )
    )


def duplicate(first: bytes) -> bytes:
    """Return the first job's JSON, marked as the response to a request that made no job."""
    return first[:-1] + b',"duplicate":true}'


def utc(when: datetime) -> datetime:
    """Return the same instant in UTC, which renders with a Z."""
    return when if when.utcoffset() == _ZERO else when.astimezone(UTC)


def _public(job: Job) -> Job:
    """Return the job as clients see it: times in UTC, and no dedupe_key that a client did not choose."""
    if job.dedupe_key is not None and job.dedupe_key.startswith(PREFIX):
        job = msgspec.structs.replace(job, dedupe_key=None)
    if job.created_at.utcoffset() == _ZERO:  # one connection reads all times of a row, so they have one zone
        return job
    times = {name: utc(when) for name in _TIMES if (when := getattr(job, name)) is not None}
    return msgspec.structs.replace(job, **times, attempts=[_attempt_in_utc(a) for a in job.attempts])


def _attempt_in_utc(attempt: Attempt) -> Attempt:
    names = ("started_at", "ended_at", "schedule_at", "queued_at")
    times = {name: utc(when) for name in names if (when := getattr(attempt, name)) is not None}
    return msgspec.structs.replace(attempt, **times)
