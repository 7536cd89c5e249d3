"""GET /history: finished jobs, one a line, for whoever keeps them elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import urlencode

import msgspec
from msgspec import Meta

from taskd.api import render
from taskd.api.answers import Answer
from taskd.api.call import Call
from taskd.api.problems import FieldError, invalid
from taskd.api.queues import narrowed
from taskd.api.reading import Gate, within
from taskd.api.transcripts import lines
from taskd.api.turns import Turns
from taskd.domain.job import MAX_ID, NAME_RULE, Ended, Job, JobStatus, is_name
from taskd.domain.output import StoredChunk
from taskd.seams import LogReader, Reads

#: Finished jobs that one request looks at; and with what their attempts have said, which may be much.
STRETCH, TALKATIVE = 500, 50

Instant = Annotated[datetime, Meta(tz=True)]
Final = Literal["completed", "failed", "cancelled"]


class History:
    """Exports finished jobs."""

    def __init__(self, overview: Reads, transcripts: LogReader, gate: Gate) -> None:
        self._gate = gate
        self._overview = overview
        self._transcripts = transcripts

    async def export(self, call: Call) -> Answer:
        """GET /history: those that ended within a time, newest ids first, as NDJSON; in `Link` where it goes on.

        A page may be empty and have a next one: it stands for a stretch of history, not for so many jobs.
        """
        query = call.query("since", "until", "status", "queue", "task", "cursor", "logs")
        wanted = _wanted(query)
        wanted = msgspec.structs.replace(wanted, queue=narrowed(call, wanted.queue))
        async with self._gate:
            body, cursor = await self._page(wanted, logs=_logs(query))
        links: tuple[tuple[bytes, bytes], ...] = ()
        if cursor is not None:
            following = urlencode({**query, "cursor": str(cursor)})
            links = ((b"link", f'</history?{following}>; rel="next"'.encode()),)
        return Answer(200, body, links, content_type=b"application/x-ndjson")

    async def _page(self, wanted: Ended, *, logs: bool) -> tuple[bytes, int | None]:
        """The lines of a stretch, and where the next one begins."""
        stretch, turns = await within(self._overview.ended(wanted)), Turns()
        jobs, cursor = stretch.jobs, stretch.next
        said: dict[int, list[StoredChunk]] | None = None
        if logs and jobs:
            said = await within(self._transcripts.of([job.id for job in jobs]))
            if len(said) < len(jobs):
                jobs = jobs[: len(said)]
                cursor = jobs[-1].id
        lines = []
        for job in jobs:
            lines.append(_line(job, said))
            await turns.turn()
        return b"".join(lines), cursor


def _line(found: Job, said: Mapping[int, list[StoredChunk]] | None) -> bytes:
    text = render.job(found)
    if said is not None:
        logs = msgspec.json.encode(list(lines(said.get(found.id, []))))
        text = text[:-1] + b',"logs":' + logs + b"}"
    return text + b"\n"


def _logs(query: dict[str, str]) -> bool:
    text = query.get("logs", "false")
    if text not in ("true", "false"):
        raise invalid(FieldError("logs", "must be true or false"))
    return text == "true"


def _wanted(query: dict[str, str]) -> Ended:
    for field in ("queue", "task"):
        if field in query and not is_name(query[field]):
            raise invalid(FieldError(field, NAME_RULE))
    status = query.get("status")
    if status is not None and not (status in set(JobStatus) and JobStatus(status).final):
        raise invalid(FieldError("status", "must be completed, failed or cancelled"))
    return Ended(
        since=_instant(query, "since"),
        until=_instant(query, "until"),
        status=JobStatus(status) if status else None,
        queue=query.get("queue"),
        task=query.get("task"),
        before=_cursor(query),
        limit=TALKATIVE if _logs(query) else STRETCH,
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


def _cursor(query: dict[str, str]) -> int:
    text = query.get("cursor")
    if text is None:
        return MAX_ID
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_ID)) and 1 <= int(text) <= MAX_ID):
        raise invalid(FieldError("cursor", f"must be a whole number from 1 to {MAX_ID}"))
    return int(text)
