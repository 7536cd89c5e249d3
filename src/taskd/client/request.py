"""What the clients ask: one request, and whether it may be asked twice."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode
from uuid import uuid4

from taskd.domain import exact

#: What is left at the very end, in seconds: a socket takes no zero.
_BLINK = 0.05


class Request(NamedTuple):
    """One HTTP request. `safe`: it may be repeated, although it may have been done; `extra`: seconds that it may wait.

    `end`: until when whoever asks waits for an answer, by time.monotonic().
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
        """Return True if it asks for a change: without an answer it is unknown whether that was made."""
        return self.method != "GET"

    @property
    def key(self) -> str | None:
        """Return its Idempotency-Key, None without one."""
        return self.headers.get("Idempotency-Key")

    @property
    def left(self) -> float:
        """Seconds for which whoever asks still waits."""
        return max(0.0, self.end - time.monotonic())

    def within(self, seconds: float) -> float:
        """So many seconds, or those that are left."""
        return max(_BLINK, min(seconds, self.left))

    @property
    def target(self) -> str:
        """The path with the query."""
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path

    @property
    def content_type(self) -> Mapping[str, str]:
        """The header that a body needs."""
        return {"Content-Type": "application/json"} if self.body is not None else {}


def document(value: Any) -> bytes:
    """The value as strict JSON. Raises TypeError or ValueError."""
    return exact.dumps(value).encode()


def submission(body: bytes, *, deduped: bool, key: str | None = None) -> Request:
    """Submit one job; `deduped`: it has a dedupe_key. `key`: the Idempotency-Key of the caller."""
    # A key of our own makes it safe to send it again; it is not worth one where the job has one.
    headers = {"Idempotency-Key": key} if key is not None else {} if deduped else _made_up_key()
    return Request("POST", "/jobs", body=body, headers=headers)


def keyed_batch(body: bytes) -> Request:
    """Submit many jobs, with a key that makes it safe to send them again."""
    return Request("POST", "/jobs/batch", body=body, headers=_made_up_key())


def batch(jobs: Sequence[Mapping[str, Any]]) -> Request:
    """Submit many jobs; it is safe to send them again if each has a dedupe_key."""
    safe = all(job.get("dedupe_key") is not None for job in jobs)
    return Request("POST", "/jobs/batch", body=document({"jobs": jobs}), safe=safe)


def reading(job_id: int | str, wait: float = 0.0) -> Request:
    """Read one job; with `wait` (seconds), as soon as it is final."""
    return Request("GET", _path(job_id), {"wait": f"{wait:g}"} if wait > 0 else {}, extra=wait)


def logs(job_id: int | str, attempt: int | None, cursor: str | None) -> Request:
    """Read what a job's attempts have said."""
    query = {"attempt": str(attempt) if attempt is not None else None, "cursor": cursor}
    return Request("GET", f"{_path(job_id)}/logs", {name: value for name, value in query.items() if value is not None})


def explaining(job_id: int | str) -> Request:
    """Ask why a job is not running or not finished."""
    return Request("GET", f"{_path(job_id)}/explain")


def action(job_id: int | str, what: str) -> Request:
    """Cancel or retry one job."""
    return Request("POST", f"{_path(job_id)}/{what}")


def schedules(
    method: str, *parts: str, query: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
) -> Request:
    """Ask for what is below /schedules. One that is made is not made again: that would be refused."""
    path = "/".join(["/schedules", *(quote(part, safe="") for part in parts)])
    safe = bool(parts) or method != "POST"
    return Request(method, path, query or {}, document(body) if body is not None else None, safe=safe)


def removal(name: str) -> Request:
    """Remove a schedule. It is not repeated: there would be none any more."""
    return schedules("DELETE", name)._replace(safe=False)


def _path(job_id: int | str) -> str:
    return f"/jobs/{quote(str(job_id), safe='')}"


def _made_up_key() -> Mapping[str, str]:
    return {"Idempotency-Key": uuid4().hex}
