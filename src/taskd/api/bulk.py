"""POST /jobs/cancel and POST /jobs/retry: a page of jobs by filter, one statement for all of them.

A client goes from page to page by the cursor, so that no request holds many rows' locks for long.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from taskd.api.answers import Answer, document
from taskd.api.call import Call
from taskd.api.decoding import decode
from taskd.api.queues import narrowed
from taskd.api.reading import within
from taskd.api.strictjson import check_text
from taskd.domain.job import MAX_ID, JobFilter, JobStatus
from taskd.domain.submission import Name
from taskd.seams import Cancels, Reads, Retries

MAX_BODY = 16 * 1024
MAX_PAGE = 1000
#: Bytes of a filter in the audit line.
MAX_ABOUT = 300

S = TypeVar("S", bound=msgspec.Struct)

Cursor = Annotated[int, Meta(ge=1, le=MAX_ID)]
Page = Annotated[int, Meta(ge=1, le=MAX_PAGE)]


class Selection(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Which jobs: all that are given must hold. `cursor` is the previous answer's; `dry_run` changes nothing."""

    queue: Name | None = None
    task: Name | None = None
    cursor: Cursor | None = None
    limit: Page = MAX_PAGE
    dry_run: bool = False


class CancelSelection(Selection):
    """The body of POST /jobs/cancel; without `status` all that are not final."""

    status: Literal["pending", "queued", "running"] | None = None


class RetrySelection(Selection):
    """The body of POST /jobs/retry. Jobs that were retried before are left out."""

    status: Literal["failed", "cancelled"] = "failed"


class Selected(msgspec.Struct, kw_only=True):
    """One page's answer: how many jobs `matched`; the `ids` of those that were cancelled, or of the new jobs (in a dry run: of
    those that would be); where the next page begins, or null."""

    matched: int
    ids: list[int]
    cursor: int | None


_cancel = msgspec.json.Decoder(CancelSelection)
_retry = msgspec.json.Decoder(RetrySelection)


class Bulk:
    """Cancels and retries by filter."""

    def __init__(self, cancels: Cancels, retries: Retries, overview: Reads) -> None:
        self._cancels = cancels
        self._retries = retries
        self._overview = overview

    async def cancel(self, call: Call) -> Answer:
        """POST /jobs/cancel."""
        wanted = await _selection(call, _cancel)
        return await _page(call, wanted, wanted.status, self._overview.cancellable, self._cancels.cancel)

    async def retry(self, call: Call) -> Answer:
        """POST /jobs/retry."""
        wanted = await _selection(call, _retry)

        async def act(job_ids: Collection[int]) -> Collection[int]:
            return (await self._retries.retry(job_ids)).values()

        return await _page(call, wanted, wanted.status, self._overview.retriable, act)


async def _selection(call: Call, decoder: msgspec.json.Decoder[S]) -> S:
    call.query()
    call.content_type(b"application/json")
    body = await call.body(MAX_BODY, "a filter is short")
    check_text(body)
    call.about = body[:MAX_ABOUT].decode("utf-8", "replace")
    return decode(decoder, body)


async def _page(
    call: Call,
    wanted: Selection,
    status: str | None,
    find: Callable[[JobFilter], Coroutine[Any, Any, list[int]]],
    act: Callable[[Collection[int]], Awaitable[Collection[int]]],
) -> Answer:
    job_filter = JobFilter(
        status=JobStatus(status) if status else None,
        queue=narrowed(call, wanted.queue),
        task=wanted.task,
        before=wanted.cursor,
        limit=wanted.limit,
    )
    found = await within(find(job_filter))
    done = found if wanted.dry_run or not found else await act(found)
    cursor = found[-1] if len(found) == wanted.limit else None
    return document(Selected(matched=len(found), ids=sorted(done), cursor=cursor))
