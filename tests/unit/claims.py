"""Claims and orders for tests that need no database."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from taskd.domain.fencing import Claim
from taskd.domain.job import AttemptId, JobInfo
from taskd.seams import Link, Order

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
SESSION = UUID(int=7)


def claim(job_id: int) -> Claim:
    """Return a claim for the first attempt of a job of the task `t`."""
    job = _job(job_id, "t", b"null")
    return Claim(attempt_id=AttemptId(job_id, 1), job=job, session=SESSION, epoch=1, queued_at=NOW, started_at=NOW)


def order(
    job_id: int = 1, task: str = "t", payload: bytes = b"{}", *, attempt: int = 1, timeout: float | None = None
) -> Order:
    """Return the order with which a worker begins an attempt in an executor."""
    return Order(_job(job_id, task, payload, timeout), attempt)


def no_link() -> Link:
    """Fail: the tests that pass this have no task that uses its link to the worker."""
    raise AssertionError("no task here uses its link")


def _job(job_id: int, task: str, payload: bytes, timeout: float | None = None) -> JobInfo:
    return JobInfo(job_id, task, "default", 0, payload, NOW, NOW, timeout, {}, 3, 0, "w")
