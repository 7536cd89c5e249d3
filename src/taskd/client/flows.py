"""The methods of both clients, without input and output: the clients differ only in how they wait.

A flow is a generator: it yields requests, is sent the response to each (or thrown its ClientError), and returns the result of
the method.
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

from taskd.client import requests
from taskd.client.failures import ClientError, decode
from taskd.client.requests import ClientRequest, document
from taskd.domain.job import FINAL

#: The most seconds that one GET /jobs/{id} may be asked to wait.
MAX_POLL = 30.0
#: Seconds after the end of a wait in which a response that is under way is still accepted.
GRACE = 1.0
#: The size of a page of jobs or versions whose request does not name one.
DEFAULT_PAGE = 100
#: The query of the next page in a Link header.
_NEXT = re.compile(r'\?([^>]*)>; rel="next"')


class ClientResponse(NamedTuple):
    """A successful response: the server's URL, the body, and the Link header."""

    url: str
    content: bytes
    link: str
    loads: Callable[[bytes], Any] = json.loads

    @property
    def document(self) -> Any:
        """The body as JSON. Raises ClientError if it is not JSON."""
        return decode(self.url, self.content, self.loads)

    @property
    def following(self) -> dict[str, str] | None:
        """The query for the next page; None without one."""
        match = _NEXT.search(self.link)
        return dict(parse_qsl(match[1])) if match is not None else None


T = TypeVar("T")
Flow = Generator[ClientRequest, ClientResponse, T]
Document = dict[str, Any]


def ask(request: ClientRequest) -> Flow[Any]:
    """Send one request; return the response's document."""
    return (yield request).document


def submit(job: Mapping[str, Any], key: str | None = None) -> Flow[Document]:
    """Submit one job; return the stored job."""
    return ask(requests.submission(document(job), deduped=job.get("dedupe_key") is not None, key=key))


def send_batch(jobs: Sequence[Mapping[str, Any]]) -> Flow[Document]:
    """Submit a batch; return the whole response."""
    return ask(requests.batch(jobs))


def job(job_id: int | str, wait: float = 0.0) -> Flow[Document]:
    """Return one job."""
    return ask(requests.show(job_id, wait))


def wait(job_id: int | str, seconds: float | None) -> Flow[Document]:
    """Return the job once it is final, or its state after `seconds`. Without a response by then, clients raise TimeoutError."""
    end = math.inf if seconds is None else time.monotonic() + seconds
    while True:
        left = max(0.0, end - time.monotonic())
        request = requests.show(job_id, min(MAX_POLL, left))._replace(end=end + GRACE)
        document: Document = yield from ask(request)
        if document["status"] in FINAL or left <= 0:
            return document


def cancel(job_id: int | str) -> Flow[Document]:
    """Cancel a job; return it, also if it was cancelled before."""
    try:
        cancelled: Document = yield from ask(requests.action(job_id, "cancel"))
    except ClientError as error:
        if error.problem.get("job_status") != "cancelled":
            raise
        cancelled = yield from job(job_id)
    return cancelled


def retry(job_id: int | str) -> Flow[Document]:
    """Retry a job; return the new job."""
    return ask(requests.action(job_id, "retry"))


def list_jobs(query: Mapping[str, str | int | None]) -> Flow[list[Document]]:
    """Return one page of jobs."""
    return _page("/jobs", {name: str(value) for name, value in query.items() if value is not None})


def config_history() -> Flow[list[Document]]:
    """Return one page of versions."""
    return _page("/config/history", {})


def _page(path: str, query: dict[str, str]) -> Flow[list[Document]]:
    """Return one page, joined from several where a server's page ends early."""
    entries: list[Document] = []
    limit = query.get("limit", "")
    most = int(limit) if limit.isdecimal() else DEFAULT_PAGE
    while True:
        response = yield ClientRequest("GET", path, query)
        page = response.document
        entries += page
        if response.following is None or len(entries) >= most or not page:
            return entries
        query = {**response.following, "limit": str(most - len(entries))}


def history_page(query: Mapping[str, str]) -> Flow[tuple[bytes, dict[str, str] | None]]:
    """Return one stretch of finished jobs, and the query for the next one."""
    response = yield ClientRequest("GET", "/history", query)
    return response.content, response.following


def select_page(action: str, selection: Mapping[str, Any]) -> Flow[tuple[Document, dict[str, Any] | None]]:
    """Cancel or retry one page of jobs by filter; return the result, and the selection of the next page."""
    page = yield from ask(ClientRequest("POST", f"/jobs/{action}", body=document(selection)))
    return page, {**selection, "cursor": page["cursor"]} if page["cursor"] is not None else None


def configure(key: str, value: Any, who: str) -> Flow[Document]:
    """Set one key; return the new version."""
    return ask(ClientRequest("PUT", _setting(key), body=document({"value": value, "who": who})))


def unconfigure(key: str, who: str) -> Flow[Document]:
    """Unset one key; return the new version."""
    return ask(ClientRequest("DELETE", _setting(key), {"who": who}))


def roll_back(version: int, who: str) -> Flow[Document]:
    """Restore the values of an old version; return the new version."""
    return ask(ClientRequest("POST", "/config/rollback", body=document({"version": version, "who": who})))


def worker(worker_id: str) -> Flow[Document]:
    """Return one live worker. Raises ClientError if there is none."""
    workers: list[Document] = (yield ClientRequest("GET", "/workers")).document["workers"]
    document = next((document for document in workers if document["id"] == worker_id), None)
    if document is None:
        raise ClientError(f"there is no live worker {worker_id!r}: taskd status shows the live workers")
    return document


def schedules() -> Flow[list[Document]]:
    """Return every schedule."""
    entries: list[Document] = []
    query: dict[str, str] | None = {}
    while query is not None:
        response = yield requests.schedules("GET", query=query)
        entries += response.document
        query = response.following
    return entries


def remove_schedule(name: str) -> Flow[Document]:
    """Remove a schedule; return the result, also if the response to the removal was lost."""
    removal = requests.remove_schedule(name)
    try:
        removed: Document = yield from ask(removal)
    except ClientError as error:
        if not error.unknown:
            raise
    else:
        return removed
    try:
        removed = yield from ask(removal._replace(safe=True))
    except ClientError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        removed = {"name": name, "removed": True}
    return removed


def health() -> Flow[Document]:
    """Return the health; the 503 of an unhealthy scheduler is a result too."""
    return ask(ClientRequest("GET", "/health", accept=(200, 503)))


def _setting(key: str) -> str:
    return f"/config/{quote(key, safe='')}"
