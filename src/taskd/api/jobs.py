"""The resources under /jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from urllib.parse import urlencode

import msgspec

from taskd.api import render
from taskd.api.answers import Answer, document
from taskd.api.batches import parse_batch
from taskd.api.bulk import MAX_PAGE
from taskd.api.call import Call, Disconnected
from taskd.api.decoding import number
from taskd.api.documents import Stored
from taskd.api.idempotency import key_of, reused, with_key, with_keys
from taskd.api.problems import FieldError, invalid, not_found, too_late
from taskd.api.queues import allowed, narrowed
from taskd.api.reading import Gate, within
from taskd.api.strictjson import check_text
from taskd.api.submission import ENVELOPE, parse
from taskd.api.tracing import submitting
from taskd.api.waiting import FinalWaiter
from taskd.domain.errors import StoreUnavailable
from taskd.domain.job import MAX_ID, NAME_RULE, Job, JobFilter, JobSpec, JobStatus, Submitted, is_name
from taskd.domain.scope import Scope
from taskd.seams import Cancels, Intake, Reads, Retries
from taskd.settings import HttpSettings

MAX_WAIT = 60.0


class Jobs:
    """Submits, reads, lists, cancels and retries jobs."""

    def __init__(
        self, intake: Intake, cancels: Cancels, retries: Retries, overview: Reads, settings: HttpSettings, gate: Gate
    ) -> None:
        self._intake = intake
        self._cancels = cancels
        self._retries = retries
        self._overview = overview
        self._settings = settings
        self._gate = gate
        self.waiter = FinalWaiter(overview)

    async def submit(self, call: Call) -> Answer:
        """POST /jobs: 201 with the job, 200 with the first one for a dedupe hit."""
        call.content_type(b"application/json")
        limit = self._settings.max_job_bytes
        body = await call.body(limit + ENVELOPE, f"a payload may have {limit} bytes")
        check_text(body)
        spec = with_key(await parse(body, limit), key_of(call), call.caller)
        allowed(call, spec.queue)
        with submitting([spec], call) as (spec,):
            stored = await self._intake.submit(spec)
        if stored.duplicate:
            return await self._duplicate(call, spec, stored)
        location = (b"location", f"/jobs/{stored.id}".encode())
        return Answer(201, render.submitted(spec, stored), (location,))

    async def _duplicate(self, call: Call, spec: JobSpec, stored: Submitted) -> Answer:
        first = await within(self._overview.job(stored.id))
        location = (b"location", f"/jobs/{stored.id}".encode())
        if first is None:  # it was pruned a moment ago; its id is still the answer
            known = {"id": stored.id, "created_at": render.utc(stored.created_at)}
            return Answer(200, render.duplicate(msgspec.json.encode(known)), (location,))
        allowed(call, first.queue)
        if problem := reused(spec, first):
            raise problem
        return Answer(200, render.duplicate(_answer(call, first)), (location,))

    async def submit_batch(self, call: Call) -> Answer:
        """POST /jobs/batch: all or nothing; the ids in the order of the jobs."""
        media = call.content_type(b"application/json", b"application/x-ndjson")
        limit = self._settings.max_batch_bytes
        body = await call.body(limit, "send it in several batches")
        check_text(body)
        specs = with_keys(await parse_batch(body, media, self._settings), key_of(call), body, call.caller)
        for queue in {spec.queue for spec in specs}:
            allowed(call, queue)
        with submitting(specs, call) as traced:
            return _batch_answer(await self._store(traced))

    async def _store(self, specs: Sequence[JobSpec]) -> Sequence[Submitted]:
        return await self._intake.submit_many(specs) if specs else []

    async def show(self, call: Call) -> Answer:
        """GET /jobs/{id}, with ?wait=SECONDS."""
        job_id = job_id_of(call)
        wait = _wait(call.query("wait").get("wait"))
        found = await self._find(call, job_id)
        if wait > 0 and not found.status.final:
            async with _listening(call) as gone:
                await self.waiter.wait(job_id, wait, gone)
                if gone.done():
                    raise Disconnected
            found = await self._find(call, job_id)
        return Answer(200, render.shown(found, datetime.now(UTC)))

    async def cancel(self, call: Call) -> Answer:
        """POST /jobs/{id}/cancel: 200 with the job; 409 with its status if it was final already."""
        job_id = job_id_of(call)
        call.query()
        found = await self._find(call, job_id)
        if found.status.final:
            raise too_late(job_id, found.status, "it is too late to cancel it")
        cancelled = await self._cancels.cancel([job_id])
        try:
            found = await self._find(call, job_id)
        except StoreUnavailable as error:
            raise error.with_outcome(unknown=True) from error  # it was cancelled, but cannot be shown
        if job_id not in cancelled:  # it ended in between
            raise too_late(job_id, found.status, "it is too late to cancel it")
        return Answer(200, _answer(call, found))

    async def retry(self, call: Call) -> Answer:
        """POST /jobs/{id}/retry: 201 with the new job, 200 if it was made before; 409 if that may not be."""
        job_id = job_id_of(call)
        call.query()
        if call.caller.queues is not None:
            await self._find(call, job_id)
        made = await self._retries.retry([job_id])
        if job_id in made:
            return await self._retried(call, made[job_id], duplicate=False)
        found = await self._find(call, job_id)
        if found.retried_as is None:
            raise too_late(job_id, found.status, "only a job that failed or was cancelled can be retried")
        return await self._retried(call, found.retried_as, duplicate=True)

    async def _retried(self, call: Call, job_id: int, *, duplicate: bool) -> Answer:
        try:
            found = await within(self._overview.job(job_id))
        except StoreUnavailable as error:
            raise error.with_outcome(unknown=True) from error  # it is stored, but cannot be shown
        # It may have been kept for less time than the job that it was made of; its id is still the answer.
        text = _answer(call, found) if found is not None else msgspec.json.encode({"id": job_id})
        location = (b"location", f"/jobs/{job_id}".encode())
        return Answer(200 if duplicate else 201, render.duplicate(text) if duplicate else text, (location,))

    async def _find(self, call: Call, job_id: int) -> Job:
        found = await within(self._overview.job(job_id))
        if found is None or not call.caller.sees(found.queue):  # others' jobs are nobody's business
            raise not_found(f"there is no job {job_id}")
        return found

    async def list(self, call: Call) -> Answer:
        """GET /jobs: a page, newest first, and in `Link` where the next one is."""
        query = call.query("status", "queue", "task", "limit", "cursor")
        wanted = _filter(query)
        wanted = msgspec.structs.replace(wanted, queue=narrowed(call, wanted.queue))
        async with self._gate:
            page = await within(self._overview.jobs(wanted))
            body = render.jobs(page.jobs)
        if not page.more:
            return Answer(200, body)
        following = urlencode({**query, "cursor": str(page.jobs[-1].id)})
        return Answer(200, body, ((b"link", f'</jobs?{following}>; rel="next"'.encode()),))


def _answer(call: Call, found: Job) -> bytes:
    """The job after a change, as much of it as the caller may read."""
    return render.job(found) if call.caller.allows(Scope.READ) else render.summary(found)


@asynccontextmanager
async def _listening(call: Call) -> AsyncIterator[asyncio.Future[None]]:
    """A future that is done once the client has gone."""
    gone: asyncio.Task[None] = asyncio.create_task(call.gone())
    try:
        yield gone
    finally:
        gone.cancel()


def _batch_answer(stored: Sequence[Submitted]) -> Answer:
    return document(Stored(ids=[s.id for s in stored], duplicates=[s.id for s in stored if s.duplicate]), 201)


def job_id_of(call: Call) -> int:
    """The id in the path. Raises a 404 Problem."""
    text = call.segment("id")
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_ID)) and 0 < int(text) <= MAX_ID):
        raise not_found("there is no such job: an id is a positive whole number")
    return int(text)


def _wait(text: str | None) -> float:
    if text is None:
        return 0.0
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_WAIT:  # NaN is not either
        raise invalid(FieldError("wait", f"must be seconds from 0 to {MAX_WAIT:g}"))
    return seconds


def _filter(query: dict[str, str]) -> JobFilter:
    for field in ("queue", "task"):
        if field in query and not is_name(query[field]):
            raise invalid(FieldError(field, NAME_RULE))
    return JobFilter(
        status=_status(query.get("status")),
        queue=query.get("queue"),
        task=query.get("task"),
        before=number(query, "cursor", MAX_ID),
        limit=number(query, "limit", MAX_PAGE) or 100,
    )


def _status(text: str | None) -> JobStatus | None:
    if text is None:
        return None
    try:
        return JobStatus(text)
    except ValueError:
        raise invalid(FieldError("status", f"must be one of {', '.join(JobStatus)}")) from None
