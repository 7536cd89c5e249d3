"""From the JSON of a submit to a JobSpec: checks types, ranges and names. Each error names its field."""

from __future__ import annotations

import msgspec

from taskd.api.decoding import decode
from taskd.api.problems import FieldError, Problem, invalid, too_large
from taskd.api.strictjson import check_value, has_nul
from taskd.domain.job import JobSpec, Scalar
from taskd.domain.policy import Backoff
from taskd.domain.submission import BackoffFields, Submission, contradiction

#: The most bytes of the fields other than the payload.
ENVELOPE = 128 * 1024

_decoder = msgspec.json.Decoder(Submission)
_NO_METADATA: dict[str, Scalar] = {}
_DEFAULT_BACKOFF = Backoff()


async def parse(body: bytes | msgspec.Raw, max_payload: int, prefix: str = "") -> JobSpec:
    """Return the job in `body` (UTF-8). `prefix` stands before field names in errors. Raises 400, 413 and 422 Problems."""
    if len(bytes(body)) > max_payload + ENVELOPE:
        raise _payload_too_large(max_payload, prefix)
    submission = decode(_decoder, body, prefix)
    return await accepted(submission, max_payload, prefix, nul=has_nul(bytes(body)))


async def accepted(submission: Submission, max_payload: int, prefix: str = "", *, nul: bool) -> JobSpec:
    """Return the job of a decoded submission. `nul`: a string of its document has a NUL. Raises 413 and 422 Problems."""
    await _check(submission, max_payload, prefix, nul=nul)
    return JobSpec(
        payload=submission.payload.copy(),
        task=submission.task,
        queue=submission.queue,
        priority=submission.priority,
        dedupe_key=submission.dedupe_key,
        schedule_at=submission.schedule_at,
        delay=submission.delay or 0.0,
        max_retries=submission.max_retries,
        retry_backoff=_backoff(submission.retry_backoff),
        timeout=submission.timeout,
        metadata=submission.metadata or _NO_METADATA,
        parent_id=submission.parent_id,
    )


def _backoff(backoff: BackoffFields | None) -> Backoff:
    return Backoff(backoff.initial, backoff.factor, backoff.max, backoff.jitter) if backoff else _DEFAULT_BACKOFF


async def _check(submission: Submission, max_payload: int, prefix: str, *, nul: bool) -> None:
    """Check what the types cannot express."""
    if len(bytes(submission.payload)) > max_payload:
        raise _payload_too_large(max_payload, prefix)
    await check_value(submission.payload, f"{prefix}payload")
    if nul:
        raise invalid(FieldError(f"{prefix}{_with_nul(submission)}", "must not contain the NUL character (\\u0000)"))
    if (error := contradiction(submission)) is not None:
        raise invalid(FieldError(f"{prefix}{error.field}", error.message))


def _payload_too_large(max_payload: int, prefix: str) -> Problem:
    message = f"is larger than {max_payload} bytes: store it elsewhere and send a reference"
    problem = too_large(f"{prefix}payload: {message}")
    problem.errors = [FieldError(f"{prefix}payload", message)]
    return problem


def _with_nul(submission: Submission) -> str:
    return "dedupe_key" if "\0" in (submission.dedupe_key or "") else "metadata"
