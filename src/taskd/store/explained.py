"""The reads of `taskd explain`: two statements, each by index and bounded."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from taskd.domain.band import band_of
from taskd.domain.explain.situation import Busy, JobSnapshot, Progress, Queue, ServingWorker
from taskd.domain.job import MAX_ID, Attempt, JobStatus
from taskd.domain.policy import SUSPECT_AFTER
from taskd.store.lane import Lane, Row
from taskd.store.statements import statement

JOB = statement("explain_job")
QUEUE = statement("explain_queue")

#: The highest numbers of workers that are read, of jobs that are counted, and of jobs that are named.
WORKERS, COUNTED, NAMED = 1000, 10_000, 3


class PostgresExplained:
    """Implements `taskd.seams.Explained`."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def subject(self, job_id: int) -> JobSnapshot | None:
        if not 0 < job_id <= MAX_ID:
            return None
        rows = await self._lane.fetch(JOB, {"id": job_id})
        return _subject(rows[0]) if rows else None

    async def queue(self, job: JobSnapshot, ageing: float) -> Queue:
        # The jobs that go first are counted only for a job that is due and not dispatched.
        bound = COUNTED if job.due and job.status is JobStatus.PENDING else 0
        ((servers, longest, ahead, rung, worker_id, until),) = await self._lane.fetch(
            QUEUE,
            {
                "id": job.id,
                "queue": job.queue,
                "priority": job.priority,
                "schedule_at": job.schedule_at,
                "low": band_of(job.priority).low,
                "ageing": ageing,
                "workers": WORKERS,
                "limit": bound,
                "longest": NAMED,
                "suspect_after": SUSPECT_AFTER,
            },
        )
        return _queue(servers, longest, ahead, rung, bound, worker_id, until)


def _subject(row: Row) -> JobSnapshot:
    """Return the job of a row of explain_job.sql, whose columns are the fields of a JobSnapshot, in their order."""
    fields: dict[str, Any] = dict(zip(JobSnapshot.__struct_fields__, row, strict=True))
    last, progress = fields["last"], fields["progress"]
    fields |= {
        "status": JobStatus(fields["status"]),
        "last": msgspec.json.decode(last, type=Attempt) if last is not None else None,
        "progress": msgspec.json.decode(progress, type=Progress) if progress is not None else None,
    }
    return JobSnapshot(**fields)


def _queue(
    servers: bytes | None,
    longest: bytes | None,
    ahead: int,
    rung: int,
    bound: int,
    worker_id: str | None,
    until: datetime | None,
) -> Queue:
    rows = msgspec.json.decode(servers, type=list[list[Any]]) if servers is not None else []
    return Queue(
        servers=[
            msgspec.convert(dict(zip(ServingWorker.__struct_fields__, row, strict=True)), ServingWorker) for row in rows
        ],
        longest=msgspec.json.decode(longest, type=list[Busy]) if longest is not None else [],
        ahead=ahead,
        rung=rung,
        bound=bound,
        served_by=worker_id,
        served_until=until,
    )
