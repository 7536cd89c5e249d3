"""POST /jobs/cancel and POST /jobs/retry: a page of jobs by filter, in one statement.

A client goes from page to page by the cursor, so that no request holds the locks of many rows for long.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from taskd.api.decoding import decode
from taskd.api.jobs import TAG
from taskd.api.parameters import MAX_PAGE
from taskd.api.queue_access import narrowed
from taskd.api.reads import within
from taskd.api.request import Request
from taskd.api.responses import Response, document
from taskd.api.routes import BODY_PROBLEMS, JSON, Operation, Resource, Result, Route
from taskd.domain.job import MAX_ID, JobFilter, JobStatus
from taskd.domain.scope import Scope
from taskd.domain.submission import Name
from taskd.seams import Cancels, Reads, Retries

MAX_BODY = 16 * 1024

S = TypeVar("S", bound=msgspec.Struct)

Cursor = Annotated[int, Meta(ge=1, le=MAX_ID)]
Page = Annotated[int, Meta(ge=1, le=MAX_PAGE)]


class JobSelection(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A filter of jobs: every given field must match. `cursor` is the previous response's; `dry_run` changes nothing."""

    queue: Name | None = None
    task: Name | None = None
    cursor: Cursor | None = None
    limit: Page = MAX_PAGE
    dry_run: bool = False


class CancelSelection(JobSelection):
    """The body of POST /jobs/cancel. Without `status`, all jobs that are not final."""

    status: Literal["pending", "queued", "running"] | None = None


class RetrySelection(JobSelection):
    """The body of POST /jobs/retry. Jobs that were retried before are left out."""

    status: Literal["failed", "cancelled"] = "failed"


class Selected(msgspec.Struct, kw_only=True):
    """One page of a change by filter: how many jobs `matched`, and the `ids` of the cancelled jobs, or of a retry's new jobs.

    In a dry run, `ids` are the jobs that would be changed. `cursor` is where the next page begins, or null.
    """

    matched: int
    ids: list[int]
    cursor: int | None


CHANGED = {200: Result(Selected, "The result for this page")}
CANCEL = Operation(
    TAG,
    "cancelJobs",
    "Cancel a page of the jobs that match a filter",
    CHANGED,
    BODY_PROBLEMS,
    bodies={JSON: CancelSelection},
)
RETRY = Operation(
    TAG,
    "retryJobs",
    "Retry a page of the jobs that match a filter",
    CHANGED,
    BODY_PROBLEMS,
    bodies={JSON: RetrySelection},
)

_cancel = msgspec.json.Decoder(CancelSelection)
_retry = msgspec.json.Decoder(RetrySelection)


class BulkResource(Resource):
    """Cancels and retries by filter."""

    def __init__(self, cancels: Cancels, retries: Retries, reads: Reads) -> None:
        self._cancels = cancels
        self._retries = retries
        self._reads = reads

    def routes(self) -> Sequence[Route]:
        return (
            Route("POST", "/jobs/cancel", self.cancel, Scope.OPERATE, CANCEL),
            Route("POST", "/jobs/retry", self.retry, Scope.OPERATE, RETRY),
        )

    async def cancel(self, request: Request) -> Response:
        """POST /jobs/cancel."""
        selection = await _selection(request, _cancel)
        return await _page(request, selection, selection.status, self._reads.cancellable, self._cancels.cancel)

    async def retry(self, request: Request) -> Response:
        """POST /jobs/retry."""
        selection = await _selection(request, _retry)

        async def act(job_ids: Collection[int]) -> Collection[int]:
            return (await self._retries.retry(job_ids)).values()

        return await _page(request, selection, selection.status, self._reads.retriable, act)


async def _selection(request: Request, decoder: msgspec.json.Decoder[S]) -> S:
    request.query()
    body = await request.json_body(MAX_BODY, "a filter is short")
    request.note(body)
    return decode(decoder, body)


async def _page(
    request: Request,
    selection: JobSelection,
    status: str | None,
    find: Callable[[JobFilter], Coroutine[Any, Any, list[int]]],
    act: Callable[[Collection[int]], Awaitable[Collection[int]]],
) -> Response:
    job_filter = JobFilter(
        status=JobStatus(status) if status else None,
        queue=narrowed(request, selection.queue),
        task=selection.task,
        before=selection.cursor,
        limit=selection.limit,
    )
    matched = await within(find(job_filter))
    ids = matched if selection.dry_run or not matched else await act(matched)
    cursor = matched[-1] if len(matched) == selection.limit else None
    return document(Selected(matched=len(matched), ids=sorted(ids), cursor=cursor))
