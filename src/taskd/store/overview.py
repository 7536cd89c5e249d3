"""What there is to see, for the API. Reads only."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from taskd.domain.claim import Session
from taskd.domain.job import MAX_ID, Attempt, Counts, Ended, Job, JobFilter, JobStatus, QueueDepth, Scalar, Stretch
from taskd.store.lane import Lanes, Row, int_array
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


class PostgresOverview:
    """Implements `taskd.seams.Overview`."""

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

    async def jobs(self, wanted: JobFilter) -> list[Job]:
        """A page of jobs, newest first, without their attempts."""
        parameters = _parameters(wanted)
        rows: list[Row] = []
        if wanted.status is None or not wanted.status.final:
            rows += await self._lanes.fetch(LIVE, parameters)
        if wanted.status is None or wanted.status.final:
            rows += await self._lanes.fetch(FINISHED, parameters)
        # A job that finished between the two reads is in both: the later row is the true one.
        newest = sorted({row[0]: row for row in rows}.values(), key=lambda row: row[0], reverse=True)
        return [_job(row, with_attempts=False) for row in newest[: wanted.limit]]

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
            },
        )
        seen, last = rows[0][:2]
        found = [_job(row[2:], with_attempts=True) for row in rows if row[2] is not None]
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

    async def depths(self) -> list[QueueDepth]:
        """The live jobs of each queue."""
        return [
            QueueDepth(queue=queue, pending=pending, queued=queued, running=running, oldest=oldest)
            for queue, pending, queued, running, oldest in await self._lanes.fetch(DEPTHS)
        ]

    async def sessions(self) -> list[Session]:
        """The sessions of the workers that are alive by PostgreSQL's clock."""
        return [session_from(row) for row in await self._lanes.fetch(SESSIONS)]


#: The columns of job.sql, live_jobs.sql and finished_jobs.sql.
COLUMNS = (
    *("id", "status", "task", "queue", "priority", "payload", "created_at", "schedule_at", "queued_at", "started_at"),
    *("completed_at", "worker_id", "attempt", "max_retries", "timeout", "error", "result", "metadata", "dedupe_key"),
    *("parent_id", "retried_as", "attempts", "outcome", "progress", "traceback"),
)


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
