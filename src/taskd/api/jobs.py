"""GET /jobs, and the routes of one job: show, cancel, retry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from taskd.api import render
from taskd.api.long_poll import FinalWaiter
from taskd.api.parameters import (
    DEFAULT_PAGE,
    JOB_ID,
    LIMIT,
    LOWER_IDS,
    MAX_PAGE,
    NEXT_PAGE,
    QUEUE,
    TASK,
    check_names,
    job_id_of,
    number,
)
from taskd.api.problems import FieldError, Problem, invalid, not_found, too_late
from taskd.api.queue_access import narrowed
from taskd.api.reads import ReadLimiter, within
from taskd.api.request import Disconnected, Request
from taskd.api.responses import Header, Response, location, next_page
from taskd.api.routes import CHANGE_PROBLEMS, READ_PROBLEMS, Operation, Parameter, Resource, Result, Route
from taskd.api.views import DuplicateJob, JobWithTimeline
from taskd.domain.errors import StoreUnavailable
from taskd.domain.job import MAX_ID, Job, JobFilter, JobStatus
from taskd.domain.scope import Scope
from taskd.seams import Cancels, Reads, Retries

TAG = "Jobs"
MAX_WAIT = 60.0
LOCATION = {"Location": "The job's path"}
#: The restriction of a response to a token that may change a job and not read it.
ONLY_STATUS = "; without the scope `read` only its id and status"

Wait = Annotated[float, Meta(ge=0, le=MAX_WAIT)]

LIST = Operation(
    TAG,
    "listJobs",
    "List jobs, newest first, without their attempts",
    {200: Result(list[Job], "A page of jobs", NEXT_PAGE)},
    READ_PROBLEMS,
    (Parameter("status", "query", JobStatus, "Only jobs of this status"), QUEUE, TASK, LIMIT, LOWER_IDS),
)
SHOW = Operation(
    TAG,
    "showJob",
    "Show a job with its attempts",
    {200: Result(JobWithTimeline, "The job")},
    (404, *READ_PROBLEMS),
    (JOB_ID, Parameter("wait", "query", Wait, "Respond when the job is final, or after this many seconds")),
)
CANCEL = Operation(
    TAG,
    "cancelJob",
    "Cancel a job that is not final",
    {200: Result(Job, f"The job, cancelled{ONLY_STATUS}")},
    (400, *CHANGE_PROBLEMS),
    (JOB_ID,),
)
RETRY = Operation(
    TAG,
    "retryJob",
    "Retry a job that failed or was cancelled, as a new job",
    {
        201: Result(Job, f"The new job{ONLY_STATUS}", LOCATION),
        200: Result(DuplicateJob, f"The new job, which an earlier retry made{ONLY_STATUS}", LOCATION),
    },
    (400, *CHANGE_PROBLEMS),
    (JOB_ID,),
)


class JobsResource(Resource):
    """Lists, shows, cancels and retries jobs."""

    def __init__(self, cancels: Cancels, retries: Retries, reads: Reads, limiter: ReadLimiter) -> None:
        self._cancels = cancels
        self._retries = retries
        self._reads = reads
        self._limiter = limiter
        self._waiter = FinalWaiter(reads)

    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", "/jobs", self.list, Scope.READ, LIST),
            Route("GET", "/jobs/{id}", self.show, Scope.READ, SHOW),
            Route("POST", "/jobs/{id}/cancel", self.cancel, Scope.OPERATE, CANCEL),
            Route("POST", "/jobs/{id}/retry", self.retry, Scope.OPERATE, RETRY),
        )

    def close(self) -> None:
        self._waiter.close()

    async def show(self, request: Request) -> Response:
        """GET /jobs/{id}, with ?wait=SECONDS."""
        job_id = job_id_of(request)
        wait = _wait(request.query("wait").get("wait"))
        job = await self._find(request, job_id)
        if wait > 0 and not job.status.final:
            async with _disconnection(request) as gone:
                await self._waiter.wait(job_id, wait, gone)
                if gone.done():
                    raise Disconnected
            job = await self._find(request, job_id)
        return Response(200, render.with_timeline(job, datetime.now(UTC)))

    async def cancel(self, request: Request) -> Response:
        """POST /jobs/{id}/cancel: 200 with the job; 409 with its status if it was final already."""
        job_id = job_id_of(request)
        request.query()
        job = await self._find(request, job_id)
        if job.status.final:
            raise too_late(job_id, job.status, "it is too late to cancel it")
        cancelled = await self._cancels.cancel([job_id])
        try:
            job = await self._find(request, job_id)
        except StoreUnavailable as error:
            raise error.with_outcome(unknown=True) from error  # it was cancelled, but cannot be shown
        if job_id not in cancelled:  # it ended in between
            raise too_late(job_id, job.status, "it is too late to cancel it")
        return Response(200, readable(request, job))

    async def retry(self, request: Request) -> Response:
        """POST /jobs/{id}/retry: 201 with the new job, 200 if it was made before; 409 if the job cannot be retried."""
        job_id = job_id_of(request)
        request.query()
        if request.caller.queues is not None:
            await self._find(request, job_id)
        new_ids = await self._retries.retry([job_id])
        if job_id in new_ids:
            return await self._retried(request, new_ids[job_id], duplicate=False)
        job = await self._find(request, job_id)
        if job.retried_as is None:
            raise too_late(job_id, job.status, "only a job that failed or was cancelled can be retried")
        return await self._retried(request, job.retried_as, duplicate=True)

    async def _retried(self, request: Request, job_id: int, *, duplicate: bool) -> Response:
        try:
            job = await within(self._reads.job(job_id))
        except StoreUnavailable as error:
            raise error.with_outcome(unknown=True) from error  # it is stored, but cannot be shown
        # It may have been pruned before the job of which it was made; its id is still the answer.
        text = readable(request, job) if job is not None else msgspec.json.encode({"id": job_id})
        body = render.duplicate(text) if duplicate else text
        return Response(200 if duplicate else 201, body, (location_of(job_id),))

    async def _find(self, request: Request, job_id: int) -> Job:
        job = await within(self._reads.job(job_id))
        if job is None or not request.caller.sees(job.queue):  # the job of another queue is not disclosed
            raise no_job(job_id)
        return job

    async def list(self, request: Request) -> Response:
        """GET /jobs: a page, newest first, with a Link to the next one."""
        query = request.query("status", "queue", "task", "limit", "cursor")
        job_filter = _filter(query)
        job_filter = msgspec.structs.replace(job_filter, queue=narrowed(request, job_filter.queue))
        async with self._limiter:
            page = await within(self._reads.jobs(job_filter))
            body = render.jobs(page.jobs)
        return Response(200, body, (next_page("/jobs", query, str(page.jobs[-1].id)),) if page.more else ())


def no_job(job_id: int) -> Problem:
    """Return a 404 Problem for a job that does not exist, or that the caller may not see."""
    return not_found(f"there is no job {job_id}")


def location_of(job_id: int) -> Header:
    """Return the Location header of a job."""
    return location(f"/jobs/{job_id}")


def readable(request: Request, job: Job) -> bytes:
    """Return the JSON of a job after a change, with the fields that the caller may read."""
    return render.job(job) if request.caller.allows(Scope.READ) else render.summary(job)


@asynccontextmanager
async def _disconnection(request: Request) -> AsyncIterator[asyncio.Future[None]]:
    """Yield a future that is done once the client has closed its connection."""
    gone: asyncio.Task[None] = asyncio.create_task(request.gone())
    try:
        yield gone
    finally:
        gone.cancel()


def _wait(text: str | None) -> float:
    if text is None:
        return 0.0
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_WAIT:  # also refuses NaN
        raise invalid(FieldError("wait", f"must be seconds from 0 to {MAX_WAIT:g}"))
    return seconds


def _filter(query: dict[str, str]) -> JobFilter:
    check_names(query)
    return JobFilter(
        status=_status(query.get("status")),
        queue=query.get("queue"),
        task=query.get("task"),
        before=number(query, "cursor", MAX_ID),
        limit=number(query, "limit", MAX_PAGE) or DEFAULT_PAGE,
    )


def _status(text: str | None) -> JobStatus | None:
    if text is None:
        return None
    try:
        return JobStatus(text)
    except ValueError:
        raise invalid(FieldError("status", f"must be one of {', '.join(JobStatus)}")) from None
