"""From the JSON of a submit to a JobSpec: types, ranges and names, each refusal naming its field."""

from __future__ import annotations

import msgspec

from taskd.api.decoding import decode
from taskd.api.problems import FieldError, Problem, invalid, too_large
from taskd.api.strictjson import check_value, has_nul
from taskd.domain.job import JobSpec, Scalar
from taskd.domain.policy import Backoff
from taskd.domain.submission import BackoffFields, Submission, contradiction

#: Bytes that a job may have beyond its payload: the other fields.
ENVELOPE = 128 * 1024

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


def _backoff(given: BackoffFields | None) -> Backoff:
    return Backoff(given.initial, given.factor, given.max, given.jitter) if given else _DEFAULT_BACKOFF


async def _check(given: Submission, max_payload: int, prefix: str, *, nul: bool) -> None:
    """What the types cannot say."""
    if len(bytes(given.payload)) > max_payload:
        raise _payload_too_large(max_payload, prefix)
    await check_value(given.payload, f"{prefix}payload")
    if nul:
        raise invalid(FieldError(f"{prefix}{_with_nul(given)}", "must not contain the NUL character (\\u0000)"))
    if (wrong := contradiction(given)) is not None:
        raise invalid(FieldError(f"{prefix}{wrong.field}", wrong.message))


def _payload_too_large(max_payload: int, prefix: str) -> Problem:
    message = f"is larger than {max_payload} bytes: store it elsewhere and send a reference"
    problem = too_large(f"{prefix}payload: {message}")
    problem.errors = [FieldError(f"{prefix}payload", message)]
    return problem


def _with_nul(given: Submission) -> str:
    return "dedupe_key" if "\0" in (given.dedupe_key or "") else "metadata"
