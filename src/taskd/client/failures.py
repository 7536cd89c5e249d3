"""Errors of requests, and which of them a retry may help."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from taskd.client.requests import ClientRequest
from taskd.domain.errors import InvalidJob, TaskdError


class ClientError(TaskdError):
    """A request to the schedulers that failed, also after retries for some seconds.

    `status` is the HTTP status, None without a response. `problem` is the response's problem document, an empty dict without
    one. `unknown`: the request may have been carried out.
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
    """A change that may have been made or not: no response said so, also after retries for some seconds.

    `key` is the request's Idempotency-Key: a repeated request with that key makes no second job. It is None for a request
    without a key, which is safe to repeat if each of its jobs has a dedupe_key.
    """

    def __init__(
        self, message: str, status: int | None = None, problem: Mapping[str, Any] | None = None, key: str | None = None
    ) -> None:
        super().__init__(message, status, problem, unknown=True)
        self.key = key


class RefusedJob(ClientError, InvalidJob):
    """A job that the schedulers refuse. The message names the field; nothing was stored."""


class Retryable(ClientError):
    """No response, or 503, to a request that may be sent to another server, or again later.

    `silent`: nothing listens at the address.
    """

    def __init__(self, message: str, status: int | None = None, *, silent: bool = False, unknown: bool = False) -> None:
        super().__init__(message, status, unknown=unknown)
        self.silent = silent


def unconnected(url: str, error: BaseException) -> ClientError:
    """Return the error of a failed connection to `url`: nothing was sent."""
    untrusted = _certificate_error(error)
    if untrusted is None:
        return Retryable(f"{url} ({reason(error)})", silent=True)
    return ClientError(
        f"{url} has a certificate that is not accepted ({untrusted.verify_message.rstrip('.')}): "
        "TASKD_CA_FILE names the file with the authorities to trust"
    )


def unanswered(url: str, request: ClientRequest, error: BaseException) -> ClientError:
    """Return the error of a request that was sent, at least in part, and got no response."""
    message = f"{url} did not answer {request.method} {request.path} ({reason(error)})"
    if request.safe:
        return Retryable(message, unknown=request.changes)
    return _unknown(message, request)


def given_up(request: ClientRequest, failures: Sequence[Retryable]) -> Exception:
    """Return the error to raise when retries end, after these failures in their order.

    TimeoutError: the caller's time is over. OutcomeUnknown: one of the servers may have made the change, whatever the others
    responded. ClientError otherwise.
    """
    last = failures[-1]
    if request.left <= 0:
        return TimeoutError(f"there was no answer in the time given: {last}")
    doubtful = next((failure for failure in failures if failure.unknown), None)
    if doubtful is not None:
        return _unknown(str(doubtful), request, doubtful.status)
    return ClientError(str(last), last.status)


def refusal(url: str, request: ClientRequest, status: int, content: bytes) -> ClientError:
    """Return the error for an error response, with a message of one line."""
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
    if status == http.client.TOO_MANY_REQUESTS:  # nothing was changed
        return Retryable(message, status)
    refused = request.path in ("/jobs", "/jobs/batch") and status in _REFUSED
    return (RefusedJob if refused else ClientError)(message, status, problem)


#: Statuses of a submit that is malformed, too large or invalid.
_REFUSED = (400, 413, 422)


def decode(url: str, content: bytes, loads: Callable[[bytes], Any] = json.loads) -> Any:
    """Return the JSON of a response. Raises ClientError."""
    try:
        return loads(content)
    except (ValueError, RecursionError):
        raise ClientError(f"{url} answered with something that is not JSON: is it a taskd scheduler?") from None


def reason(error: BaseException) -> str:
    """Return the cause in a few words, for a line that says more."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]


def _unknown(
    message: str, request: ClientRequest, status: int | None = None, problem: Mapping[str, Any] | None = None
) -> OutcomeUnknown:
    return OutcomeUnknown(f"{message}: {_what_to_do(request)}", status, problem, request.key)


def _what_to_do(request: ClientRequest) -> str:
    if request.path == "/schedules":
        return "it may have been made or not: see taskd schedule list; --replace (PUT) makes it safe to repeat"
    if request.key is not None:
        return f"it is unknown whether it was stored; repeated with the Idempotency-Key {request.key} it makes no second job"
    if request.safe:
        return "it is unknown whether it was done; it is safe to repeat"
    return "it is unknown whether it was done; a dedupe_key for each job makes it safe to repeat"


def _certificate_error(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """Return the certificate error among the causes of an error; None without one."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error
