"""POST /jobs and POST /jobs/batch: new jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from taskd.api import render
from taskd.api.batches import parse_batch
from taskd.api.idempotency import HEADER, MAX_KEY, key_of, reused, with_key, with_keys
from taskd.api.jobs import LOCATION, ONLY_STATUS, TAG, location_of, readable
from taskd.api.queue_access import allowed
from taskd.api.reads import within
from taskd.api.request import Request
from taskd.api.responses import Response, document
from taskd.api.routes import BODY_PROBLEMS, JSON, NDJSON, Operation, Parameter, Resource, Result, Route
from taskd.api.strictjson import check_text
from taskd.api.submission import ENVELOPE, parse
from taskd.api.tracing import submitting
from taskd.api.views import BatchView, DuplicateJob
from taskd.domain.job import Job, JobSpec, Submitted
from taskd.domain.scope import Scope
from taskd.domain.submission import Submission
from taskd.seams import Intake, Reads
from taskd.settings import HttpSettings

Key = Annotated[str, Meta(min_length=1, max_length=MAX_KEY, pattern=r"^[!-~]+$")]


PARAMETERS = (
    Parameter(HEADER, "header", Key, "A repeated request with the same key makes no second job"),
    Parameter("traceparent", "header", str, "The trace that the job belongs to (W3C Trace Context)"),
)
SUBMIT = Operation(
    TAG,
    "submitJob",
    "Submit a job",
    {
        201: Result(Job, "The job is stored", LOCATION),
        200: Result(DuplicateJob, f"The job that its dedupe_key or Idempotency-Key made before{ONLY_STATUS}", LOCATION),
    },
    BODY_PROBLEMS,
    PARAMETERS,
    {JSON: Submission},
)


def submit_batch_operation(max_jobs: int) -> Operation:
    """Return the description of POST /jobs/batch, with this scheduler's limit."""
    # Not maxItems: a batch that is too long is refused with 413, as everything that is too large.
    jobs = Annotated[list[Submission], Meta(description=f"at most {max_jobs} jobs")]
    namespace = {"__doc__": "The body of POST /jobs/batch."}
    batch = msgspec.defstruct("Batch", [("jobs", jobs)], namespace=namespace, forbid_unknown_fields=True)
    return Operation(
        TAG,
        "submitJobs",
        "Submit many jobs, all or none",
        {201: Result(BatchView, "All jobs are stored")},
        BODY_PROBLEMS,
        PARAMETERS,
        {JSON: batch, NDJSON: str},
    )


class SubmitResource(Resource):
    """Stores new jobs."""

    def __init__(self, intake: Intake, reads: Reads, settings: HttpSettings) -> None:
        self._intake = intake
        self._reads = reads
        self._settings = settings

    def routes(self) -> Sequence[Route]:
        submit_batch = submit_batch_operation(self._settings.max_batch_jobs)
        return (
            Route("POST", "/jobs", self.submit, Scope.SUBMIT, SUBMIT),
            Route("POST", "/jobs/batch", self.submit_batch, Scope.SUBMIT, submit_batch),
        )

    async def submit(self, request: Request) -> Response:
        """POST /jobs: 201 with the job, 200 with the first job of its dedupe_key or Idempotency-Key."""
        limit = self._settings.max_job_bytes
        body = await request.json_body(limit + ENVELOPE, f"a payload may have {limit} bytes")
        spec = with_key(await parse(body, limit), key_of(request), request.caller)
        allowed(request, spec.queue)
        with submitting([spec], request) as (spec,):
            stored = await self._intake.submit(spec)
        if stored.duplicate:
            return await self._duplicate(request, spec, stored)
        return Response(201, render.submitted(spec, stored), (location_of(stored.id),))

    async def _duplicate(self, request: Request, spec: JobSpec, stored: Submitted) -> Response:
        first = await within(self._reads.job(stored.id))
        headers = (location_of(stored.id),)
        if first is None:  # pruned a moment ago; its id is still the answer
            known = {"id": stored.id, "created_at": render.utc(stored.created_at)}
            return Response(200, render.duplicate(msgspec.json.encode(known)), headers)
        allowed(request, first.queue)
        if problem := reused(spec, first):
            raise problem
        return Response(200, render.duplicate(readable(request, first)), headers)

    async def submit_batch(self, request: Request) -> Response:
        """POST /jobs/batch: all jobs or none; the ids in the order of the jobs."""
        media = request.content_type(b"application/json", b"application/x-ndjson")
        body = await request.body(self._settings.max_batch_bytes, "send it in several batches")
        check_text(body)
        specs = with_keys(await parse_batch(body, media, self._settings), key_of(request), body, request.caller)
        for queue in {spec.queue for spec in specs}:
            allowed(request, queue)
        with submitting(specs, request) as traced:
            stored = await self._intake.submit_many(traced) if traced else []
        ids, duplicates = [job.id for job in stored], [job.id for job in stored if job.duplicate]
        return document(BatchView(ids=ids, duplicates=duplicates), 201)
