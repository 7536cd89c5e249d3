"""GET /jobs/{id}/logs: what the attempts of a job have logged and printed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from msgspec import UNSET

from taskd.api.answers import Answer, document
from taskd.api.call import Call
from taskd.api.decoding import number
from taskd.api.documents import LineView, LogsView
from taskd.api.jobs import job_id_of
from taskd.api.problems import FieldError, invalid, not_found
from taskd.api.reading import within
from taskd.domain.output import LogPosition, StoredChunk
from taskd.seams import LogReader, Reads

#: Chunks in one answer: some hundreds of kilobytes at the most.
PAGE = 50
MAX_NUMBER = 2**31 - 1
START = LogPosition()
_CURSOR = re.compile("([0-9]{1,10})[.]([0-9]{1,10})", re.ASCII)


class JobLogs:
    """Shows what attempts have said."""

    def __init__(self, overview: Reads, transcripts: LogReader) -> None:
        self._overview = overview
        self._transcripts = transcripts

    async def show(self, call: Call) -> Answer:
        """A page of the lines of one attempt or of all, in their order; `cursor` is where the next one begins."""
        job_id = job_id_of(call)
        query = call.query("attempt", "cursor")
        attempt, after = number(query, "attempt", MAX_NUMBER), _place(query.get("cursor"))
        found = await within(self._overview.job(job_id))  # before the lines: of a job that is final, none comes later
        if found is None or not call.caller.sees(found.queue):
            raise not_found(f"there is no job {job_id}")
        page = await within(self._transcripts.read(job_id, attempt, after, PAGE + 1))
        shown = list(lines(page[:PAGE], after))
        last = LogPosition(shown[-1].attempt, shown[-1].line) if shown else after
        view = LogsView(
            id=job_id,
            status=found.status,
            attempts=found.attempt,
            lines=shown,
            cursor=f"{last.attempt}.{last.line}",
            more=len(page) > PAGE,
        )
        return document(view)


def lines(chunks: Iterable[StoredChunk], after: LogPosition = START) -> Iterator[LineView]:
    """The lines of chunks; where numbers are missing, one that says how many."""
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


def _place(text: str | None) -> LogPosition:
    if text is None:
        return LogPosition()
    found = _CURSOR.fullmatch(text)
    if found is None or max(numbers := [int(part) for part in found.groups()]) > MAX_NUMBER:
        raise invalid(FieldError("cursor", "must be what an earlier answer has as its cursor"))
    return LogPosition(*numbers)
