"""What the clients' methods ask and what they make of the answers. The two clients differ in how they wait only.

A talk is a generator: it yields Requests, is sent the Reply to each (or thrown its ClientError), and returns what the method
does.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl, quote

from taskd.client import request as ask_for
from taskd.client.failures import ClientError, decode
from taskd.client.request import Request, document
from taskd.domain.job import FINAL

#: The most seconds that one GET /jobs/{id} may be asked to wait.
MAX_POLL = 30.0
#: Seconds after the end of a wait for which an answer that is under way is still taken.
GRACE = 1.0
#: How many jobs, or versions, a page has unless its request says so.
DEFAULT_PAGE = 100
#: The query of the next page in a Link header.
_NEXT = re.compile(r'\?([^>]*)>; rel="next"')


class Reply(NamedTuple):
    """A good answer: who gave it, what it says, and where it goes on."""

    url: str
    content: bytes
    link: str
    loads: Callable[[bytes], Any] = json.loads

    @property
    def document(self) -> Any:
        """What it says. Raises ClientError for what is no JSON."""
        return decode(self.url, self.content, self.loads)

    @property
    def following(self) -> dict[str, str] | None:
        """The query for the next page, if there is one."""
        found = _NEXT.search(self.link)
        return dict(parse_qsl(found[1])) if found is not None else None


T = TypeVar("T")
Talk = Generator[Request, Reply, T]
Document = dict[str, Any]


def ask(request: Request) -> Talk[Any]:
    """One question; the answer's document."""
    return (yield request).document


def submit(job: Mapping[str, Any], key: str | None = None) -> Talk[Document]:
    """The stored job."""
    return ask(ask_for.submission(document(job), deduped=job.get("dedupe_key") is not None, key=key))


def send_batch(jobs: Sequence[Mapping[str, Any]]) -> Talk[Document]:
    """The whole answer."""
    return ask(ask_for.batch(jobs))


def job(job_id: int | str, wait: float = 0.0) -> Talk[Document]:
    """One job."""
    return ask(ask_for.reading(job_id, wait))


def wait(job_id: int | str, seconds: float | None) -> Talk[Document]:
    """The job once it is final, or as it is after `seconds`. If nobody says so by then, the clients raise TimeoutError."""
    end = math.inf if seconds is None else time.monotonic() + seconds
    while True:
        left = max(0.0, end - time.monotonic())
        request = ask_for.reading(job_id, min(MAX_POLL, left))._replace(end=end + GRACE)
        found: Document = yield from ask(request)
        if found["status"] in FINAL or left <= 0:
            return found


def cancel(job_id: int | str) -> Talk[Document]:
    """The job, also if it was cancelled before."""
    try:
        found: Document = yield from ask(ask_for.action(job_id, "cancel"))
    except ClientError as error:
        if error.problem.get("job_status") != "cancelled":
            raise
        found = yield from job(job_id)
    return found


def retry(job_id: int | str) -> Talk[Document]:
    """The new job."""
    return ask(ask_for.action(job_id, "retry"))


def list_jobs(wanted: Mapping[str, str | int | None]) -> Talk[list[Document]]:
    """One page."""
    return _page("/jobs", {name: str(value) for name, value in wanted.items() if value is not None})


def config_history() -> Talk[list[Document]]:
    """One page of versions."""
    return _page("/config/history", {})


def _page(path: str, query: dict[str, str]) -> Talk[list[Document]]:
    """One page, put together of several where a server's page ends early."""
    found: list[Document] = []
    limit = query.get("limit", "")
    most = int(limit) if limit.isdecimal() else DEFAULT_PAGE
    while True:
        reply = yield Request("GET", path, query)
        page = reply.document
        found += page
        if reply.following is None or len(found) >= most or not page:
            return found
        query = {**reply.following, "limit": str(most - len(found))}


def history_page(query: Mapping[str, str]) -> Talk[tuple[bytes, dict[str, str] | None]]:
    """One stretch of finished jobs, and the query for the next one."""
    reply = yield Request("GET", "/history", query)
    return reply.content, reply.following


def select_page(action: str, wanted: Mapping[str, Any]) -> Talk[tuple[Document, dict[str, Any] | None]]:
    """One page of a cancel or retry by filter, and what is wanted of the next one."""
    page = yield from ask(Request("POST", f"/jobs/{action}", body=document(wanted)))
    return page, {**wanted, "cursor": page["cursor"]} if page["cursor"] is not None else None


def configure(key: str, value: Any, who: str) -> Talk[Document]:
    """The new version."""
    return ask(Request("PUT", _setting(key), body=document({"value": value, "who": who})))


def unconfigure(key: str, who: str) -> Talk[Document]:
    """The new version."""
    return ask(Request("DELETE", _setting(key), {"who": who}))


def roll_back(version: int, who: str) -> Talk[Document]:
    """The new version."""
    return ask(Request("POST", "/config/rollback", body=document({"version": version, "who": who})))


def worker(worker_id: str) -> Talk[Document]:
    """One live worker."""
    workers: list[Document] = (yield Request("GET", "/workers")).document["workers"]
    found = next((one for one in workers if one["id"] == worker_id), None)
    if found is None:
        raise ClientError(f"there is no live worker {worker_id!r}: taskd status shows who is there")
    return found


def schedules() -> Talk[list[Document]]:
    """Every schedule."""
    found: list[Document] = []
    query: dict[str, str] | None = {}
    while query is not None:
        reply = yield ask_for.schedules("GET", query=query)
        found += reply.document
        query = reply.following
    return found


def remove_schedule(name: str) -> Talk[Document]:
    """What was removed, also if the answer that said so was lost."""
    removal = ask_for.removal(name)
    try:
        found: Document = yield from ask(removal)
    except ClientError as error:
        if not error.unknown:
            raise
    else:
        return found
    try:
        found = yield from ask(removal._replace(safe=True))
    except ClientError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        found = {"name": name, "removed": True}
    return found


def health() -> Talk[Document]:
    """Being unhealthy is an answer too."""
    return ask(Request("GET", "/health", accept=(200, 503)))


def _setting(key: str) -> str:
    return f"/config/{quote(key, safe='')}"
