"""GET /jobs/{id}/logs: the lines that the attempts of a job logged and printed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated

from msgspec import UNSET, Meta

from taskd.api.jobs import TAG, no_job
from taskd.api.parameters import JOB_ID, job_id_of, number
from taskd.api.problems import FieldError, invalid
from taskd.api.reads import within
from taskd.api.request import Request
from taskd.api.responses import Response, document
from taskd.api.routes import READ_PROBLEMS, Operation, Parameter, Resource, Result, Route
from taskd.api.views import LineView, LogsView
from taskd.domain.output import LogPosition, StoredChunk
from taskd.domain.scope import Scope
from taskd.seams import LogReader, Reads

#: Chunks in one response: at most a few hundred kilobytes.
PAGE = 50
MAX_NUMBER = 2**31 - 1
START = LogPosition()
_CURSOR = re.compile("([0-9]{1,10})[.]([0-9]{1,10})", re.ASCII)


AttemptNumber = Annotated[int, Meta(ge=1, le=MAX_NUMBER)]
LogCursor = Annotated[str, Meta(pattern=r"^[0-9]{1,10}\.[0-9]{1,10}$")]

SHOW = Operation(
    TAG,
    "showLogs",
    "Show the lines that a job's attempts logged and printed",
    {200: Result(LogsView, "A page of lines")},
    (404, *READ_PROBLEMS),
    (
        JOB_ID,
        Parameter("attempt", "query", AttemptNumber, "Only lines of this attempt"),
        Parameter("cursor", "query", LogCursor, "Only later lines; the `cursor` of an earlier response"),
    ),
)


class LogsResource(Resource):
    """Shows the output of attempts."""

    def __init__(self, reads: Reads, log_reader: LogReader) -> None:
        self._reads = reads
        self._log_reader = log_reader

    def routes(self) -> Sequence[Route]:
        return (Route("GET", "/jobs/{id}/logs", self.show, Scope.READ, SHOW),)

    async def show(self, request: Request) -> Response:
        """GET /jobs/{id}/logs: a page of the lines of one attempt or of all, in their order."""
        job_id = job_id_of(request)
        query = request.query("attempt", "cursor")
        attempt, after = number(query, "attempt", MAX_NUMBER), _position(query.get("cursor"))
        job = await within(self._reads.job(job_id))  # read before the lines: a final job has no later ones
        if job is None or not request.caller.sees(job.queue):
            raise no_job(job_id)
        page = await within(self._log_reader.read(job_id, attempt, after, PAGE + 1))
        shown = list(lines(page[:PAGE], after))
        last = LogPosition(shown[-1].attempt, shown[-1].line) if shown else after
        view = LogsView(
            id=job_id,
            status=job.status,
            attempts=job.attempt,
            lines=shown,
            cursor=f"{last.attempt}.{last.line}",
            more=len(page) > PAGE,
        )
        return document(view)


def lines(chunks: Iterable[StoredChunk], after: LogPosition = START) -> Iterator[LineView]:
    """Yield the lines of chunks; one line in the place of missing ones, with their number."""
    attempt, last = after
    for chunk in chunks:
        if chunk.attempt != attempt:
            attempt, last = chunk.attempt, 0
        if (left_out := chunk.line - last - 1) > 0:
            at = datetime.fromtimestamp(chunk.body[0].at, UTC)
            text = f"... {left_out:,} {'line' if left_out == 1 else 'lines'} left out ..."
            yield LineView(attempt=attempt, line=chunk.line - 1, at=at, source="taskd", text=text, left_out=left_out)
        for last, line in enumerate(chunk.body, chunk.line):
            at = datetime.fromtimestamp(line.at, UTC)
            level = line.level or UNSET
            yield LineView(attempt=attempt, line=last, at=at, source=line.source, level=level, text=line.text)


def _position(text: str | None) -> LogPosition:
    if text is None:
        return LogPosition()
    match = _CURSOR.fullmatch(text)
    if match is None or max(numbers := [int(part) for part in match.groups()]) > MAX_NUMBER:
        raise invalid(FieldError("cursor", "must be the cursor of an earlier response"))
    return LogPosition(*numbers)
