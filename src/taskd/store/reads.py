"""What there is to see, for the API. Reads only."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from taskd.domain.claim import Session
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
from taskd.store.statements import statement

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
        """Return if PostgreSQL answers."""
        await self._lanes.fetch(PING)

    async def job(self, job_id: int) -> Job | None:
        """One job, live or finished, with its attempts; None if there is none."""
        if not 0 < job_id <= MAX_ID:
            return None
        rows = await self._lanes.fetch(JOB, {"id": job_id})
        return _job(rows[0], with_attempts=True) if rows else None

    async def jobs(self, wanted: JobFilter) -> Page:
        """A page of jobs, newest first, without their attempts."""
        parameters = _parameters(wanted) | {"budget": PAGE_BYTES}
        parts: list[list[Row]] = []
        if wanted.status is None or not wanted.status.final:
            parts.append(await self._lanes.fetch(LIVE, parameters))
        if wanted.status is None or wanted.status.final:
            parts.append(await self._lanes.fetch(FINISHED, parameters))
        # Below the end of a part that goes on, its jobs are not known, so that the page ends there.
        floor = max((part[-1][0] for part in parts if part and part[0][-1]), default=0)
        # A job that finished between the two reads is in both: the later row is the true one.
        known = {row[0]: row[:-1] for part in parts for row in part if row[0] >= floor}
        jobs = [_job(known[job_id], with_attempts=False) for job_id in sorted(known, reverse=True)]
        shown = jobs[: min(wanted.limit, _fitting(jobs))]
        return Page(shown, more=floor > 0 or len(shown) < len(jobs))

    async def ended(self, wanted: Ended) -> Stretch:
        """Those of a stretch of finished jobs that are wanted, with their attempts."""
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
        found = [_job(row[3:], with_attempts=True) for row in rows if row[3] is not None]
        if len(found) < matching:  # the stretch ends where the budget does
            return Stretch(found, found[-1].id)
        return Stretch(found, last if seen == wanted.limit else None)

    async def cancellable(self, wanted: JobFilter) -> list[int]:
        """The ids of a page of live jobs, newest first."""
        return [row[0] for row in await self._lanes.fetch(CANCELLABLE, _parameters(wanted))]

    async def retriable(self, wanted: JobFilter) -> list[int]:
        """The ids of a page of jobs that ended as `wanted.status` and were not retried yet, newest first."""
        return [row[0] for row in await self._lanes.fetch(RETRIABLE, _parameters(wanted))]

    async def final(self, job_ids: Collection[int]) -> set[int]:
        """Those of `job_ids` that are final by now or do not exist."""
        return {row[0] for row in await self._lanes.fetch(FINAL, {"ids": int_array(job_ids)})}

    async def counts(self) -> Counts:
        """The cluster's counters."""
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
        """The live jobs of each of these queues (None: of all), for the `limit` with most of them."""
        rows = await self._lanes.fetch(
            DEPTHS, {"queues": sorted(queues) if queues is not None else None, "limit": limit}
        )
        if not rows:
            return Depths(queues=[])
        found = [
            QueueDepth(queue=queue, pending=pending, queued=queued, running=running, oldest=oldest)
            for queue, pending, queued, running, oldest, *_ in sorted(rows)
        ]
        count, pending, queued, running = rows[0][5:]
        return Depths(
            queues=found,
            left_out=count - len(found),
            pending=pending - sum(depth.pending for depth in found),
            queued=queued - sum(depth.queued for depth in found),
            running=running - sum(depth.running for depth in found),
        )

    async def sessions(self) -> list[Session]:
        """The sessions of the workers that are alive by PostgreSQL's clock."""
        return [session_from(row) for row in await self._lanes.fetch(SESSIONS)]


#: The columns of job.sql, live_jobs.sql and finished_jobs.sql.
COLUMNS = (
    *("id", "status", "task", "queue", "priority", "payload", "created_at", "schedule_at", "queued_at", "started_at"),
    *("completed_at", "worker_id", "attempt", "max_retries", "timeout", "error", "result", "metadata", "dedupe_key"),
    *("parent_id", "retried_as", "attempts", "outcome", "progress", "traceback"),
)


def _fitting(jobs: Sequence[Job]) -> int:
    """How many of these fill a page, in bytes."""
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
    """The closed attempts, and the last one, which the job's own columns describe."""
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
