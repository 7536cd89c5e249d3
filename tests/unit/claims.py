"""Claims for tests that need no database."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from taskd.domain.fencing import Claim
from taskd.domain.job import AttemptId, JobInfo

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
SESSION = UUID(int=7)


def claim(job_id: int) -> Claim:
    """Return a claim for the first attempt of a job of the task `t`."""
    job = JobInfo(job_id, "t", "default", 0, b"null", NOW, NOW, None, {}, 3, 0, "w")
    return Claim(attempt_id=AttemptId(job_id, 1), job=job, session=SESSION, epoch=1, queued_at=NOW, started_at=NOW)
