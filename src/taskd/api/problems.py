"""Errors as RFC 9457 problem documents. Code below a route raises a Problem; `dispatch` renders it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

import msgspec

from taskd.api.responses import Header, Response
from taskd.domain.job import JobStatus

#: The most characters of a message. It may quote the request, and a response must not grow with its request.
MAX_MESSAGE = 300
RETRY_AFTER = 1
#: The type of a problem after which the client should repeat the same request, with its Idempotency-Key.
OUTCOME_UNKNOWN = "urn:taskd:problem:outcome-unknown"


class FieldError(msgspec.Struct, frozen=True):
    """One invalid field: its path (`metadata`, `jobs[3].priority`) and the rule for it."""

    field: str
    message: str


class Problem(Exception):
    """An error response. `outcome_unknown`: the change may have been made all the same. `more`: further members."""

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

    def response(self) -> Response:
        """Return the problem document."""
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
        return Response(self.status.value, body, tuple(self.headers), content_type=b"application/problem+json")


def _printable(text: str) -> str:
    """Return at most MAX_MESSAGE characters, without NUL, since problem documents are shown in terminals and logs."""
    text = text.replace("\0", "\\u0000")
    return text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]}…"


def malformed(detail: str) -> Problem:
    """Return a 400 Problem: the body is not JSON."""
    return Problem(HTTPStatus.BAD_REQUEST, detail)


def invalid(*errors: FieldError) -> Problem:
    """Return a 422 Problem: fields or parameters are invalid; the detail names the first one."""
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{first.field}: {first.message}{more}", errors=errors)


def too_large(detail: str) -> Problem:
    """Return a 413 Problem."""
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)


def not_found(detail: str) -> Problem:
    """Return a 404 Problem."""
    return Problem(HTTPStatus.NOT_FOUND, detail)


def already(detail: str) -> Problem:
    """Return a 409 Problem: the name is taken."""
    return Problem(HTTPStatus.CONFLICT, detail)


def too_late(job_id: int, status: JobStatus, why: str) -> Problem:
    """Return a 409 Problem: the job's status does not allow the change. `job_status` is that status; `status` is HTTP's."""
    detail = f"job {job_id} is {status}: {why}"
    return Problem(HTTPStatus.CONFLICT, detail, more={"job_status": status.value})


def too_many_bodies(most: int) -> Problem:
    """Return a 503 Problem with Retry-After: other requests hold all the memory for bodies."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"this scheduler is busy with {most // 2**20} MiB of other requests' bodies: try again soon, or send less at once",
        headers=[(b"retry-after", str(RETRY_AFTER).encode())],
    )


def unavailable(detail: str, *, outcome_unknown: bool = False) -> Problem:
    """Return a 503 Problem with Retry-After: PostgreSQL is away."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        detail,
        headers=[(b"retry-after", str(RETRY_AFTER).encode())],
        outcome_unknown=outcome_unknown,
    )
