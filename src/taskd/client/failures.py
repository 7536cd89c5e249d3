"""Why a request failed, and whether asking again may help."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from taskd.client.request import Request
from taskd.domain.errors import InvalidJob, TaskdError


class ClientError(TaskdError):
    """A request to the schedulers that failed, also after it was tried again for some seconds.

    `status` is the HTTP status, or None if there was no answer; `problem` is the answer's problem document, a dict, empty
    without one. `unknown`: what was asked may have been done.
    """

    def __init__(
        self,
        message: str,
        status: int | None = None,
        problem: Mapping[str, Any] | None = None,
        *,
        unknown: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.unknown = unknown
        self.problem = dict(problem or {})


class OutcomeUnknown(ClientError):
    """A change that was asked for and may have been made or not: no answer said, also after some seconds of asking again.

    `key` is the Idempotency-Key that the request had: the same request with that key makes no second job. It is None for a
    request without one, which is safe to repeat if each of its jobs has a dedupe_key.
    """

    def __init__(
        self, message: str, status: int | None = None, problem: Mapping[str, Any] | None = None, key: str | None = None
    ) -> None:
        super().__init__(message, status, problem, unknown=True)
        self.key = key


class RefusedJob(ClientError, InvalidJob):
    """A job that the schedulers refuse: the message names the field. Nothing was stored."""


class Retryable(ClientError):
    """No answer, or 503, and nothing was changed by asking: somebody else may be asked, or the same one later.

    `silent` means that nothing listens there.
    """

    def __init__(self, message: str, status: int | None = None, *, silent: bool = False, unknown: bool = False) -> None:
        super().__init__(message, status, unknown=unknown)
        self.silent = silent


def unconnected(url: str, error: BaseException) -> ClientError:
    """There is no connection to `url`, so nothing was sent."""
    refused = _certificate_error(error)
    if refused is None:
        return Retryable(f"{url} ({reason(error)})", silent=True)
    return ClientError(
        f"{url} has a certificate that is not accepted ({refused.verify_message.rstrip('.')}): "
        "TASKD_CA_FILE names the file with the authorities to trust"
    )


def unanswered(url: str, request: Request, error: BaseException) -> ClientError:
    """The request was sent, at least a part of it, and no answer came."""
    message = f"{url} did not answer {request.method} {request.path} ({reason(error)})"
    if request.safe:
        return Retryable(message, unknown=request.changes)
    return _unknown(message, request)


def given_up(request: Request, failures: Sequence[Retryable]) -> Exception:
    """Return what is raised when no server is asked any more, after these failures in their order.

    That is TimeoutError if the caller waits no longer, and OutcomeUnknown if one of the servers that were asked may have made
    the change, whatever the others have said.
    """
    last = failures[-1]
    if request.left <= 0:
        return TimeoutError(f"there was no answer in the time given: {last}")
    doubtful = next((one for one in failures if one.unknown), None)
    if doubtful is not None:
        return _unknown(str(doubtful), request, doubtful.status)
    return ClientError(str(last), last.status)


def refusal(url: str, request: Request, status: int, content: bytes) -> ClientError:
    """What an error answer says, in one line."""
    try:
        problem = json.loads(content)
    except (ValueError, RecursionError):
        problem = None
    if not isinstance(problem, dict) or "detail" not in problem:
        return ClientError(f"{url} answered with status {status}: is it a taskd scheduler?", status)
    errors = [f"{e['field']}: {e['message']}" for e in problem.get("errors", [])]
    message = "; ".join(errors) or str(problem["detail"])
    if status == http.client.SERVICE_UNAVAILABLE:
        doubtful = request.changes and bool(problem.get("outcome_unknown", False))
        if request.safe or not doubtful:
            return Retryable(message, status, unknown=doubtful)
        return _unknown(message, request, status, problem)
    if status == http.client.TOO_MANY_REQUESTS:  # nothing was done
        return Retryable(message, status)
    refused = request.path in ("/jobs", "/jobs/batch") and status in _REFUSED
    return (RefusedJob if refused else ClientError)(message, status, problem)


#: Of a submit: malformed, too large, not a job.
_REFUSED = (400, 413, 422)


def decode(url: str, content: bytes, loads: Callable[[bytes], Any] = json.loads) -> Any:
    """The JSON of an answer. Raises ClientError."""
    try:
        return loads(content)
    except (ValueError, RecursionError):
        raise ClientError(f"{url} answered with something that is no JSON: is it a taskd scheduler?") from None


def reason(error: BaseException) -> str:
    """A few words for a line that says more."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]


def _unknown(
    message: str, request: Request, status: int | None = None, problem: Mapping[str, Any] | None = None
) -> OutcomeUnknown:
    return OutcomeUnknown(f"{message}: {_what_to_do(request)}", status, problem, request.key)


def _what_to_do(request: Request) -> str:
    if request.path == "/schedules":
        return "it may have been made or not; taskd schedule list tells, and --replace (PUT) makes it safe to repeat"
    if request.key is not None:
        return f"it is unknown whether it was stored; repeated with the Idempotency-Key {request.key} it makes no second job"
    if request.safe:
        return "it is unknown whether it was done; it may be asked for again"
    return "it is unknown whether it was done; a dedupe_key for each job makes it safe to repeat"


def _certificate_error(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """The error itself, or what some library made it of."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error
