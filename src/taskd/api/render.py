"""A job as JSON: every field that is not null, times in UTC."""

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


def job(found: Job) -> bytes:
    """One job, always with its attempts."""
    text = _encoder.encode(_shown(found))
    return text if found.attempts else text[:-1] + b',"attempts":[]}'


def summary(found: Job) -> bytes:
    """One job for a caller that may change it and not read it."""
    return _encoder.encode({"id": found.id, "status": found.status})


def shown(found: Job, now: datetime) -> bytes:
    """One job with its attempts, and how long it stood where up to `now`."""
    return job(found)[:-1] + b',"timeline":' + _encoder.encode(timeline(_shown(found), utc(now))) + b"}"


def jobs(found: Sequence[Job]) -> bytes:
    """A page of jobs."""
    return _encoder.encode([_shown(one) for one in found])


def submitted(spec: JobSpec, stored: Submitted) -> bytes:
    """A job that was stored just now."""
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
    """The first job's JSON, marked as the answer to a submit that made none."""
    return first[:-1] + b',"duplicate":true}'


def utc(when: datetime) -> datetime:
    """The same instant in UTC, which renders with a Z."""
    return when if when.utcoffset() == _ZERO else when.astimezone(UTC)


def _shown(found: Job) -> Job:
    """The job as clients see it: times in UTC, and no dedupe_key that a client did not choose."""
    if found.dedupe_key is not None and found.dedupe_key.startswith(PREFIX):
        found = msgspec.structs.replace(found, dedupe_key=None)
    if found.created_at.utcoffset() == _ZERO:  # all of a row's times come from one connection, and so in one zone
        return found
    times = {name: utc(when) for name in _TIMES if (when := getattr(found, name)) is not None}
    return msgspec.structs.replace(found, **times, attempts=[_attempt_in_utc(a) for a in found.attempts])


def _attempt_in_utc(attempt: Attempt) -> Attempt:
    names = ("started_at", "ended_at", "schedule_at", "queued_at")
    times = {name: utc(when) for name in names if (when := getattr(attempt, name)) is not None}
    return msgspec.structs.replace(attempt, **times)
