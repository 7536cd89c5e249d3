"""GET /history: finished jobs, one a line, for an archive elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from taskd.api import render
from taskd.api.jobs import TAG
from taskd.api.logs import lines
from taskd.api.parameters import LOWER_IDS, QUEUE, TASK, check_names, number
from taskd.api.problems import FieldError, invalid
from taskd.api.queue_access import narrowed
from taskd.api.reads import ReadLimiter, within
from taskd.api.request import Request
from taskd.api.responses import Response, next_page
from taskd.api.routes import NDJSON, READ_PROBLEMS, Operation, Parameter, Resource, Result, Route
from taskd.api.time_slice import TimeSlice
from taskd.domain.job import MAX_ID, Ended, Job, JobStatus
from taskd.domain.output import StoredChunk
from taskd.domain.scope import Scope
from taskd.seams import LogReader, Reads

#: Finished jobs that one request reads; and fewer with their output, which may be large.
STRETCH, STRETCH_WITH_LOGS = 500, 50

Instant = Annotated[datetime, Meta(tz=True)]
Final = Literal["completed", "failed", "cancelled"]


EXPORT = Operation(
    TAG,
    "exportHistory",
    "Export finished jobs, one a line, newest first",
    {
        200: Result(
            str, "A stretch of history", {"Link": 'The next stretch (rel="next"), if there is one'}, media=NDJSON
        )
    },
    READ_PROBLEMS,
    (
        Parameter("since", "query", Instant, "Only jobs that ended at this time or later"),
        Parameter("until", "query", Instant, "Only jobs that ended before this time"),
        Parameter("status", "query", Final, "Only jobs that ended with this status"),
        QUEUE,
        TASK,
        Parameter("logs", "query", bool, "Add `logs` to each job: the lines that its attempts logged and printed"),
        LOWER_IDS,
    ),
)


class HistoryResource(Resource):
    """Exports finished jobs."""

    def __init__(self, reads: Reads, log_reader: LogReader, limiter: ReadLimiter) -> None:
        self._limiter = limiter
        self._reads = reads
        self._log_reader = log_reader

    def routes(self) -> Sequence[Route]:
        return (Route("GET", "/history", self.export, Scope.READ, EXPORT),)

    async def export(self, request: Request) -> Response:
        """GET /history: the jobs that ended within a time, newest ids first, as NDJSON, with a Link to the next stretch.

        A page stands for a stretch of history, not for a number of jobs: it may be empty and have a next page.
        """
        query = request.query("since", "until", "status", "queue", "task", "cursor", "logs")
        ended = _filter(query)
        ended = msgspec.structs.replace(ended, queue=narrowed(request, ended.queue))
        async with self._limiter:
            body, cursor = await self._page(ended, logs=_logs(query))
        links = (next_page("/history", query, str(cursor)),) if cursor is not None else ()
        return Response(200, body, links, content_type=b"application/x-ndjson")

    async def _page(self, ended: Ended, *, logs: bool) -> tuple[bytes, int | None]:
        """Return the lines of a stretch, and the cursor of the next one."""
        stretch, time_slice = await within(self._reads.ended(ended)), TimeSlice()
        jobs, cursor = stretch.jobs, stretch.next
        output: dict[int, list[StoredChunk]] | None = None
        if logs and jobs:
            output = await within(self._log_reader.of([job.id for job in jobs]))
            if len(output) < len(jobs):
                jobs = jobs[: len(output)]
                cursor = jobs[-1].id
        rows = []
        for job in jobs:
            rows.append(_line(job, output))
            await time_slice.pause()
        return b"".join(rows), cursor


def _line(job: Job, output: Mapping[int, list[StoredChunk]] | None) -> bytes:
    text = render.job(job)
    if output is not None:
        logs = msgspec.json.encode(list(lines(output.get(job.id, []))))
        text = text[:-1] + b',"logs":' + logs + b"}"
    return text + b"\n"


def _logs(query: dict[str, str]) -> bool:
    text = query.get("logs", "false")
    if text not in ("true", "false"):
        raise invalid(FieldError("logs", "must be true or false"))
    return text == "true"


def _filter(query: dict[str, str]) -> Ended:
    check_names(query)
    status = query.get("status")
    if status is not None and not (status in set(JobStatus) and JobStatus(status).final):
        raise invalid(FieldError("status", "must be completed, failed or cancelled"))
    return Ended(
        since=_instant(query, "since"),
        until=_instant(query, "until"),
        status=JobStatus(status) if status else None,
        queue=query.get("queue"),
        task=query.get("task"),
        before=number(query, "cursor", MAX_ID) or MAX_ID,
        limit=STRETCH_WITH_LOGS if _logs(query) else STRETCH,
    )


def _instant(query: dict[str, str], field: str) -> datetime | None:
    text = query.get(field)
    if text is None:
        return None
    try:
        return msgspec.convert(text, Instant)
    except msgspec.ValidationError:
        raise invalid(
            FieldError(
                field, "must be an RFC 3339 time with an offset, as in 2026-01-31T12:00:00Z (a + is written %2B)"
            )
        ) from None
