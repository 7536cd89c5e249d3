"""The requests that clients send, and which of them may be repeated."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode
from uuid import uuid4

from taskd.domain import exact

#: The shortest timeout, in seconds: a socket does not accept zero.
_MIN_TIMEOUT = 0.05


class ClientRequest(NamedTuple):
    """One HTTP request.

    `safe`: the request may be repeated, although it may have been carried out. `extra`: seconds that the server may wait before
    it responds. `end`: the time, by time.monotonic(), until which the caller waits for a response.
    """

    method: str
    path: str
    query: Mapping[str, str] = {}
    body: bytes | None = None
    headers: Mapping[str, str] = {}
    safe: bool = True
    extra: float = 0.0
    accept: tuple[int, ...] = (200, 201)
    end: float = math.inf

    @property
    def changes(self) -> bool:
        """True if the request makes a change: without a response, it is unknown whether the change was made."""
        return self.method != "GET"

    @property
    def key(self) -> str | None:
        """The request's Idempotency-Key; None without one."""
        return self.headers.get("Idempotency-Key")

    @property
    def left(self) -> float:
        """Seconds for which the caller still waits."""
        return max(0.0, self.end - time.monotonic())

    def within(self, seconds: float) -> float:
        """Return `seconds`, or those that are left, if fewer."""
        return max(_MIN_TIMEOUT, min(seconds, self.left))

    @property
    def target(self) -> str:
        """The path with the query."""
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path

    @property
    def content_type(self) -> Mapping[str, str]:
        """The header that a body needs."""
        return {"Content-Type": "application/json"} if self.body is not None else {}


def document(value: Any) -> bytes:
    """Return the value as strict JSON. Raises TypeError or ValueError."""
    return exact.dumps(value).encode()


def submission(body: bytes, *, deduped: bool, key: str | None = None) -> ClientRequest:
    """Submit one job. `deduped`: the job has a dedupe_key. `key`: the Idempotency-Key of the caller."""
    # A generated key makes it safe to repeat the request. A job with a dedupe_key does not need one.
    headers = {"Idempotency-Key": key} if key is not None else {} if deduped else _generated_key()
    return ClientRequest("POST", "/jobs", body=body, headers=headers)


def keyed_batch(body: bytes) -> ClientRequest:
    """Submit many jobs, with a generated key that makes it safe to repeat the request."""
    return ClientRequest("POST", "/jobs/batch", body=body, headers=_generated_key())


def batch(jobs: Sequence[Mapping[str, Any]]) -> ClientRequest:
    """Submit many jobs; it is safe to repeat the request if each job has a dedupe_key."""
    safe = all(job.get("dedupe_key") is not None for job in jobs)
    return ClientRequest("POST", "/jobs/batch", body=document({"jobs": jobs}), safe=safe)


def show(job_id: int | str, wait: float = 0.0) -> ClientRequest:
    """Read one job; with `wait` (seconds), once it is final."""
    return ClientRequest("GET", _path(job_id), {"wait": f"{wait:g}"} if wait > 0 else {}, extra=wait)


def logs(job_id: int | str, attempt: int | None, cursor: str | None) -> ClientRequest:
    """Read the output of a job's attempts."""
    query = {"attempt": str(attempt) if attempt is not None else None, "cursor": cursor}
    return ClientRequest(
        "GET", f"{_path(job_id)}/logs", {name: value for name, value in query.items() if value is not None}
    )


def explain(job_id: int | str) -> ClientRequest:
    """Read the explanation of a job."""
    return ClientRequest("GET", f"{_path(job_id)}/explain")


def action(job_id: int | str, name: str) -> ClientRequest:
    """Cancel or retry one job."""
    return ClientRequest("POST", f"{_path(job_id)}/{name}")


def schedules(
    method: str, *parts: str, query: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
) -> ClientRequest:
    """Read or change what is below /schedules. POST is not repeated: the second one would be refused."""
    path = "/".join(["/schedules", *(quote(part, safe="") for part in parts)])
    safe = bool(parts) or method != "POST"
    return ClientRequest(method, path, query or {}, document(body) if body is not None else None, safe=safe)


def remove_schedule(name: str) -> ClientRequest:
    """Remove a schedule. The request is not repeated: the second one would not find the schedule."""
    return schedules("DELETE", name)._replace(safe=False)


def _path(job_id: int | str) -> str:
    return f"/jobs/{quote(str(job_id), safe='')}"


def _generated_key() -> Mapping[str, str]:
    return {"Idempotency-Key": uuid4().hex}
