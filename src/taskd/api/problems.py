"""What is wrong, as RFC 9457 problem documents. Raise a Problem anywhere below a resource; the resource renders it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

import msgspec

from taskd.api.answers import Answer, Header
from taskd.domain.job import JobStatus

#: A message that quotes what the client sent is cut here, so that an answer never grows with its request.
MAX_MESSAGE = 300
RETRY_AFTER = 1
#: The type of a problem after which the same request, with its Idempotency-Key, is to be repeated.
OUTCOME_UNKNOWN = "urn:taskd:problem:outcome-unknown"


class FieldError(msgspec.Struct, frozen=True):
    """One bad field: its path (`metadata`, `jobs[3].priority`) and what it must be."""

    field: str
    message: str


class Problem(Exception):
    """An answer that is an error. `outcome_unknown` tells a client that its write may have happened all the same;
    `more` are further members of the document."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Sequence[Header] = (),
        outcome_unknown: bool = False,
        more: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers = headers
        self.outcome_unknown = outcome_unknown
        self.more = more or {}

    def answer(self) -> Answer:
        """The problem document."""
        document: dict[str, object] = {
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": _printable(self.detail),
        }
        if self.errors:
            document["errors"] = [FieldError(_printable(e.field), _printable(e.message)) for e in self.errors]
        if self.outcome_unknown:
            document = {"type": OUTCOME_UNKNOWN, **document, "outcome_unknown": True}
        document |= self.more
        body = msgspec.json.encode(document)
        return Answer(self.status.value, body, tuple(self.headers), content_type=b"application/problem+json")


def _printable(text: str) -> str:
    """At most MAX_MESSAGE characters, without NUL: problem documents end up in terminals and logs."""
    text = text.replace("\0", "\\u0000")
    return text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]}…"


def malformed(detail: str) -> Problem:
    """400: the body is no JSON."""
    return Problem(HTTPStatus.BAD_REQUEST, detail)


def invalid(*errors: FieldError) -> Problem:
    """422: the body is JSON, but not a job; the detail names the first field."""
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{first.field}: {first.message}{more}", errors=errors)


def too_large(detail: str) -> Problem:
    """413."""
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)


def not_found(detail: str) -> Problem:
    """404."""
    return Problem(HTTPStatus.NOT_FOUND, detail)


def already(detail: str) -> Problem:
    """409: there is one such."""
    return Problem(HTTPStatus.CONFLICT, detail)


def too_late(job_id: int, status: JobStatus, why: str) -> Problem:
    """409: the job's status does not allow it. It is `job_status`, since `status` is the answer's own."""
    detail = f"job {job_id} is {status}: {why}"
    return Problem(HTTPStatus.CONFLICT, detail, more={"job_status": status.value})


def too_many_bodies(most: int) -> Problem:
    """503: other requests hold all the memory that there is for bodies."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"this scheduler is busy with {most // 2**20} MiB of other requests' bodies: try again soon, or send less at once",
        headers=[(b"retry-after", str(RETRY_AFTER).encode())],
    )


def unavailable(detail: str, *, outcome_unknown: bool = False) -> Problem:
    """503: PostgreSQL is away, come back soon."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        detail,
        headers=[(b"retry-after", str(RETRY_AFTER).encode())],
        outcome_unknown=outcome_unknown,
    )
