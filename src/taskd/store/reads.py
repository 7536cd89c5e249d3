"""Reads of jobs, counters and workers, for the API."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from taskd.domain.fencing import Session
from taskd.domain.job import (
    MAX_ID,
    Attempt,
    Counts,
    Depths,
    Ended,
    Job,
    JobFilter,
    JobStatus,
    Page,
    QueueDepth,
    Scalar,
    Stretch,
)
from taskd.store.lane import PAGE_BYTES, Lanes, Row, int_array
from taskd.store.sessions import session_from
from taskd.store.statements import columns, statement

PING = statement("ping")
JOB = statement("job")
LIVE = statement("live_jobs")
FINISHED = statement("finished_jobs")
EXPORT = statement("export")
CANCELLABLE = statement("cancellable")
RETRIABLE = statement("retriable")
FINAL = statement("final")
COUNTS = statement("counts")
DEPTHS = statement("depths")
SESSIONS = statement("sessions")


class PostgresReads:
    """Implements `taskd.seams.Reads`."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes

    async def ping(self) -> None:
        await self._lanes.fetch(PING)

    async def job(self, job_id: int) -> Job | None:
        if not 0 < job_id <= MAX_ID:
            return None
        rows = await self._lanes.fetch(JOB, {"id": job_id})
        return _job(rows[0], with_attempts=True) if rows else None

    async def jobs(self, wanted: JobFilter) -> Page:
        parameters = _parameters(wanted) | {"budget": PAGE_BYTES}
        parts: list[list[Row]] = []
        if wanted.status is None or not wanted.status.final:
            parts.append(await self._lanes.fetch(LIVE, parameters))
        if wanted.status is None or wanted.status.final:
            parts.append(await self._lanes.fetch(FINISHED, parameters))
        # A part that goes on says nothing of the jobs below its end, so that the page ends there.
        floor = max((part[-1][0] for part in parts if part and part[0][-1]), default=0)
        # A job that finished between the two reads is in both: the later row is the true one.
        newest = {row[0]: row[:-1] for part in parts for row in part if row[0] >= floor}
        jobs = [_job(newest[job_id], with_attempts=False) for job_id in sorted(newest, reverse=True)]
        shown = jobs[: min(wanted.limit, _fitting(jobs))]
        return Page(shown, more=floor > 0 or len(shown) < len(jobs))

    async def ended(self, wanted: Ended) -> Stretch:
        rows = await self._lanes.fetch(
            EXPORT,
            {
                "since": wanted.since,
                "until": wanted.until,
                "status": wanted.status.value if wanted.status else None,
                "queue": wanted.queue,
                "task": wanted.task,
                "before": wanted.before,
                "limit": wanted.limit,
                "budget": PAGE_BYTES,
            },
        )
        seen, last, matching = rows[0][:3]
        jobs = [_job(row[3:], with_attempts=True) for row in rows if row[3] is not None]
        if len(jobs) < matching:  # the stretch ends where the budget does
            return Stretch(jobs, jobs[-1].id)
        return Stretch(jobs, last if seen == wanted.limit else None)

    async def cancellable(self, wanted: JobFilter) -> list[int]:
        return [row[0] for row in await self._lanes.fetch(CANCELLABLE, _parameters(wanted))]

    async def retriable(self, wanted: JobFilter) -> list[int]:
        return [row[0] for row in await self._lanes.fetch(RETRIABLE, _parameters(wanted))]

    async def final(self, job_ids: Collection[int]) -> set[int]:
        return {row[0] for row in await self._lanes.fetch(FINAL, {"ids": int_array(job_ids)})}

    async def counts(self) -> Counts:
        ((pending, queued, running, completed, failed, cancelled, dispatched, last),) = await self._lanes.fetch(COUNTS)
        return Counts(
            pending=pending,
            queued=queued,
            running=running,
            completed=completed,
            failed=failed,
            cancelled=cancelled,
            dispatched=dispatched,
            last_dispatch=last,
        )

    async def depths(self, queues: Collection[str] | None, limit: int) -> Depths:
        rows = await self._lanes.fetch(
            DEPTHS, {"queues": sorted(queues) if queues is not None else None, "limit": limit}
        )
        if not rows:
            return Depths(queues=[])
        shown = [
            QueueDepth(queue=queue, pending=pending, queued=queued, running=running, oldest=oldest)
            for queue, pending, queued, running, oldest, *_ in sorted(rows)
        ]
        count, pending, queued, running = rows[0][5:]
        return Depths(
            queues=shown,
            left_out=count - len(shown),
            pending=pending - sum(depth.pending for depth in shown),
            queued=queued - sum(depth.queued for depth in shown),
            running=running - sum(depth.running for depth in shown),
        )

    async def sessions(self) -> list[Session]:
        return [session_from(row) for row in await self._lanes.fetch(SESSIONS)]


#: The columns of job.sql, live_jobs.sql, finished_jobs.sql and export.sql that show a job.
COLUMNS = (*columns("finished_columns"), "attempts", "outcome", "progress", "traceback")


def _fitting(jobs: Sequence[Job]) -> int:
    """Return the number of these jobs that fill a page, in bytes."""
    size = 0
    for count, job in enumerate(jobs, 1):
        size += len(bytes(job.payload)) + (len(bytes(job.result)) if job.result is not None else 0)
        if size >= PAGE_BYTES:
            return count
    return len(jobs)


def _parameters(wanted: JobFilter) -> dict[str, Any]:
    return {
        "before": wanted.before if wanted.before is not None else MAX_ID,
        "status": wanted.status.value if wanted.status else None,
        "queue": wanted.queue,
        "task": wanted.task,
        "limit": wanted.limit,
    }


def _job(row: Row, *, with_attempts: bool) -> Job:
    fields = dict(zip(COLUMNS, row, strict=True))
    attempts = _attempts(fields) if with_attempts else []
    del fields["outcome"], fields["traceback"]
    metadata = fields["metadata"]
    fields |= {
        "status": JobStatus(fields["status"]),
        "metadata": msgspec.json.decode(metadata, type=dict[str, Scalar]) if metadata is not None else None,
        "attempts": attempts,
    }
    return Job(**fields)


def _attempts(fields: dict[str, Any]) -> list[Attempt]:
    """Return the closed attempts and the last one, which the job's own columns describe."""
    closed, ended = fields["attempts"], fields["completed_at"]
    attempts = msgspec.json.decode(closed, type=list[Attempt]) if closed is not None else []
    if fields["worker_id"] is not None:
        last = Attempt(
            attempt=fields["attempt"],
            worker_id=fields["worker_id"],
            started_at=fields["started_at"],
            ended_at=ended,
            outcome=fields["outcome"],
            error=fields["error"] if ended is not None and fields["status"] != JobStatus.COMPLETED else None,
            traceback=fields["traceback"],
            schedule_at=fields["schedule_at"],
            queued_at=fields["queued_at"],
        )
        attempts.append(last)
    return attempts
