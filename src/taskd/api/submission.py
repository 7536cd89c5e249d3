"""From the JSON of a submit to a JobSpec: types, ranges and names, each refusal naming its field."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from taskd.api.decoding import Name, decode
from taskd.api.idempotency import HEADER, PREFIX
from taskd.api.problems import FieldError, Problem, invalid, too_large
from taskd.api.strictjson import check_value, has_nul
from taskd.domain.job import MAX_ID, MAX_NAME, MAX_PRIORITY, MAX_RETRIES, JobSpec, Scalar
from taskd.domain.policy import Backoff

#: Bytes that a job may have beyond its payload: the other fields.
ENVELOPE = 128 * 1024
MAX_METADATA = 64
MAX_METADATA_TEXT = 1024
#: Ten years, in seconds: longer waits are a mistake in the unit.
MAX_SECONDS = 315_360_000
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 1, 1, tzinfo=UTC)
Seconds = Annotated[float, Meta(ge=0, le=MAX_SECONDS)]
Whole = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Text = Annotated[str, Meta(max_length=MAX_METADATA_TEXT)]
Key = Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
Metadata = Annotated[dict[Key, Text | Whole | float | bool | None], Meta(max_length=MAX_METADATA)]


class RetryBackoff(msgspec.Struct, forbid_unknown_fields=True):
    """Exponential backoff, in seconds."""

    initial: Seconds = 1.0
    factor: Annotated[float, Meta(ge=1, le=1000)] = 2.0
    max: Seconds = 3600.0
    jitter: bool = True


class JobFields(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What every job has, also one that a schedule makes."""

    payload: msgspec.Raw
    task: Name = "default"
    queue: Name = "default"
    priority: Annotated[int, Meta(ge=0, le=MAX_PRIORITY)] = 0
    max_retries: Annotated[int, Meta(ge=0, le=MAX_RETRIES)] = 3
    retry_backoff: RetryBackoff | None = None
    timeout: Annotated[float, Meta(gt=0, le=MAX_SECONDS)] | None = None
    metadata: Metadata = {}


class Submission(JobFields, kw_only=True):
    """The body of POST /jobs."""

    dedupe_key: Annotated[str, Meta(min_length=1, max_length=MAX_NAME)] | None = None
    schedule_at: Annotated[datetime, Meta(tz=True)] | None = None
    delay: Seconds | None = None
    parent_id: Annotated[int, Meta(ge=1, le=MAX_ID)] | None = None


_decoder = msgspec.json.Decoder(Submission)
_NO_METADATA: dict[str, Scalar] = {}
_DEFAULT_BACKOFF = Backoff()


async def parse(body: bytes | msgspec.Raw, max_payload: int, prefix: str = "") -> JobSpec:
    """The job that `body` (UTF-8) asks for; `prefix` stands before field names. Raises 400, 413 and 422 Problems."""
    if len(bytes(body)) > max_payload + ENVELOPE:
        raise _payload_too_large(max_payload, prefix)
    given = decode(_decoder, body, prefix)
    return await accepted(given, max_payload, prefix, nul=has_nul(bytes(body)))


async def accepted(given: Submission, max_payload: int, prefix: str = "", *, nul: bool) -> JobSpec:
    """The job that was given, decoded already; `nul`: whether its document has a NUL character in a string. Raises Problems."""
    await _check(given, max_payload, prefix, nul=nul)
    return JobSpec(
        payload=given.payload.copy(),
        task=given.task,
        queue=given.queue,
        priority=given.priority,
        dedupe_key=given.dedupe_key,
        schedule_at=given.schedule_at,
        delay=given.delay or 0.0,
        max_retries=given.max_retries,
        retry_backoff=_backoff(given.retry_backoff),
        timeout=given.timeout,
        metadata=given.metadata or _NO_METADATA,
        parent_id=given.parent_id,
    )


def _backoff(given: RetryBackoff | None) -> Backoff:
    return Backoff(given.initial, given.factor, given.max, given.jitter) if given else _DEFAULT_BACKOFF


async def _check(given: Submission, max_payload: int, prefix: str, *, nul: bool) -> None:
    """What the types cannot say."""
    if len(bytes(given.payload)) > max_payload:
        raise _payload_too_large(max_payload, prefix)
    await check_value(given.payload, f"{prefix}payload")
    if nul:
        raise invalid(FieldError(f"{prefix}{_with_nul(given)}", "must not contain the NUL character (\\u0000)"))
    if (given.dedupe_key or "").startswith(PREFIX):
        raise invalid(FieldError(f"{prefix}dedupe_key", f"must not begin with {PREFIX}: send the header {HEADER}"))
    if given.schedule_at is not None:
        if given.delay is not None:
            raise invalid(FieldError(f"{prefix}delay", "cannot be given together with schedule_at"))
        if not EARLIEST <= given.schedule_at <= LATEST:
            raise invalid(FieldError(f"{prefix}schedule_at", "must be between the years 1970 and 9998"))


def _payload_too_large(max_payload: int, prefix: str) -> Problem:
    message = f"is larger than {max_payload} bytes: store it elsewhere and send a reference"
    problem = too_large(f"{prefix}payload: {message}")
    problem.errors = [FieldError(f"{prefix}payload", message)]
    return problem


def _with_nul(given: Submission) -> str:
    return "dedupe_key" if "\0" in (given.dedupe_key or "") else "metadata"
