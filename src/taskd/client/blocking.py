"""The client of the command line and of threads."""

from __future__ import annotations

import contextlib
import http.client
import re
import select
import ssl
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qsl, quote

from taskd.client import request as ask_for
from taskd.client.failures import ClientError, Retryable, decode, refusal, unanswered, unconnected
from taskd.client.request import Request, document
from taskd.client.servers import DEFAULT_SERVER, Server, Servers, headers, patiently, trusting

#: The most seconds that one GET /jobs/{id} may be asked to wait.
MAX_POLL = 30.0
#: How many connections to one address stay open while nobody uses them.
IDLE = 10
#: The query of the next page in a Link header.
_NEXT = re.compile(r'\?([^>]*)>; rel="next"')


class Reply(NamedTuple):
    """A good answer: who gave it, what it says, and where it goes on."""

    server: Server
    content: bytes
    link: str


class Client:
    """Talks to the schedulers at `servers` (URLs, comma-separated).

    Threads may share it: each request under way has a connection of its own.

    `timeout` is the seconds until a request counts as unanswered; `patience` the seconds for which one that may be repeated
    is. A server that answered before is waited for like that; where none ever did, the failure is told at once.
    `ca_file` has the authorities that https:// trusts; without, the system's.
    """

    def __init__(
        self,
        servers: str = DEFAULT_SERVER,
        *,
        token: str | None = None,
        ca_file: str | None = None,
        timeout: float = 10.0,
        patience: float = 5.0,
    ) -> None:
        self._servers = Servers(servers)
        self._headers = headers(token)
        self._ca_file = ca_file
        self._tls: ssl.SSLContext | None = None
        self._timeout = timeout
        self._patience = patience
        #: Open connections that nobody uses, by address. Taking and putting back are one step each, so they need no lock.
        self._idle: dict[str, list[http.client.HTTPConnection]] = {server.url: [] for server in self._servers}
        # A script that just ends leaves no open sockets for Python to warn of.
        weakref.finalize(self, _close, self._idle)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that nobody uses; the next request opens new ones."""
        _close(self._idle)

    def submit(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Submit one job (the fields of POST /jobs); the stored job. Raises ClientError."""
        deduped = job.get("dedupe_key") is not None
        answer: dict[str, Any] = self.ask(ask_for.submission(document(job), deduped=deduped))
        return answer

    def submit_batch(self, jobs: Sequence[Mapping[str, Any]]) -> list[int]:
        """Submit all of `jobs`, or none; their ids in order. Raises ClientError."""
        ids: list[int] = self.send_batch(jobs)["ids"]
        return ids

    def send_batch(self, jobs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """As `submit_batch`, with the whole answer: `ids`, and which of them are `duplicates`."""
        answer: dict[str, Any] = self.ask(ask_for.batch(jobs))
        return answer

    def job(self, job_id: int | str, wait: float = 0.0) -> dict[str, Any]:
        """One job; with `wait` (seconds, at most 60) as soon as it is final. Raises ClientError, status 404 if unknown."""
        found: dict[str, Any] = self.ask(ask_for.reading(job_id, wait))
        return found

    def logs(self, job_id: int | str, attempt: int | None = None, cursor: str | None = None) -> dict[str, Any]:
        """A page of what the job's attempts have logged and printed, as GET /jobs/{id}/logs. Raises ClientError."""
        query = {"attempt": str(attempt) if attempt is not None else None, "cursor": cursor}
        given = {name: value for name, value in query.items() if value is not None}
        found: dict[str, Any] = self.ask(ask_for.logs(job_id, given))
        return found

    def explain(self, job_id: int | str) -> dict[str, Any]:
        """Why a job is not running or not finished. Raises ClientError, status 404 if it is unknown."""
        found: dict[str, Any] = self.ask(ask_for.explaining(job_id))
        return found

    def wait(self, job_id: int, seconds: float | None = None) -> dict[str, Any]:
        """The job once it is final, or as it is after `seconds` (None: no limit). Raises ClientError."""
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            left = MAX_POLL if end is None else max(0.0, end - time.monotonic())
            found = self.job(job_id, min(MAX_POLL, left))
            if found["status"] in ("completed", "failed", "cancelled") or left <= 0:
                return found

    def cancel(self, job_id: int | str) -> dict[str, Any]:
        """Cancel one job; the job, also if it was cancelled before (an answer may have been lost).

        Raises ClientError, status 404 if it is unknown, 409 if it ended otherwise: `problem["job_status"]` says how.
        """
        try:
            found: dict[str, Any] = self.ask(ask_for.action(job_id, "cancel"))
        except ClientError as error:
            if error.problem.get("job_status") != "cancelled":
                raise
            found = self.job(job_id)
        return found

    def retry(self, job_id: int | str) -> dict[str, Any]:
        """Try a job again that failed or was cancelled: the new job, with `duplicate` if it was made before.

        Raises ClientError, status 404 if it is unknown, 409 if it may not be retried: `problem["job_status"]` says why.
        """
        found: dict[str, Any] = self.ask(ask_for.action(job_id, "retry"))
        return found

    def list_jobs(self, **wanted: str | int | None) -> list[dict[str, Any]]:
        """A page of jobs, newest first; `wanted` are the parameters of GET /jobs. Raises ClientError."""
        query = {name: str(value) for name, value in wanted.items() if value is not None}
        found: list[dict[str, Any]] = self._request("GET", "/jobs", query)
        return found

    def history(self, wanted: Mapping[str, str]) -> Iterator[bytes]:
        """Finished jobs as NDJSON, stretch by stretch, newest first; `wanted` are the parameters of GET /history.

        Raises ClientError.
        """
        query = dict(wanted)
        while True:
            reply = self._exchange(Request("GET", "/history", query))
            yield reply.content
            following = _NEXT.search(reply.link)
            if following is None:
                return
            query = dict(parse_qsl(following[1]))

    def select(self, action: Literal["cancel", "retry"], wanted: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Cancel or retry by filter (`wanted`: the body of POST /jobs/cancel, /jobs/retry): each page's answer.

        Raises ClientError.
        """
        cursor: dict[str, int] = {}
        while True:
            body = document({**wanted, **cursor})
            page: dict[str, Any] = self._request("POST", f"/jobs/{action}", body=body)
            yield page
            if page["cursor"] is None:
                return
            cursor = {"cursor": page["cursor"]}

    def configure(self, key: str, value: Any, who: str) -> dict[str, Any]:
        """Set one key of the live configuration; the new version. Raises ClientError."""
        body = document({"value": value, "who": who})
        made: dict[str, Any] = self._request("PUT", f"/config/{quote(key, safe='')}", body=body)
        return made

    def worker(self, worker_id: str) -> dict[str, Any]:
        """One live worker as GET /workers shows it. Raises ClientError if there is none of that id."""
        workers: list[dict[str, Any]] = self._request("GET", "/workers")["workers"]
        found = next((one for one in workers if one["id"] == worker_id), None)
        if found is None:
            raise ClientError(f"there is no live worker {worker_id!r}: taskd status shows who is there")
        return found

    def unconfigure(self, key: str, who: str) -> dict[str, Any]:
        """Unset one key of the live configuration; the new version. Raises ClientError."""
        made: dict[str, Any] = self._request("DELETE", f"/config/{quote(key, safe='')}", {"who": who})
        return made

    def roll_back(self, version: int, who: str) -> dict[str, Any]:
        """Bring the values of an old version of the live configuration back; the new version. Raises ClientError."""
        body = document({"version": version, "who": who})
        made: dict[str, Any] = self._request("POST", "/config/rollback", body=body)
        return made

    def schedule(
        self,
        method: str,
        *parts: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """What /schedules/PARTS answers. Raises ClientError."""
        answer: dict[str, Any] = self.ask(ask_for.schedules(method, *parts, query=query, body=body))
        return answer

    def schedules(self) -> list[dict[str, Any]]:
        """Every schedule, by name. Raises ClientError."""
        found: list[dict[str, Any]] = []
        query: dict[str, str] = {}
        while True:
            reply = self._exchange(ask_for.schedules("GET", query=query))
            found += decode(reply.server.url, reply.content)
            following = _NEXT.search(reply.link)
            if following is None:
                return found
            query = dict(parse_qsl(following[1]))

    def get(self, path: str) -> Any:
        """The document at `path`, for instance /leader. Raises ClientError."""
        return self._request("GET", path)

    def health(self) -> dict[str, Any]:
        """GET /health of the first scheduler that answers; being unhealthy is an answer too. Raises ClientError."""
        found: dict[str, Any] = self._request("GET", "/health", accept=(200, 503))
        return found

    def ask(self, request: Request) -> Any:
        """The answer's document. Raises ClientError."""
        reply = self._exchange(request)
        return decode(reply.server.url, reply.content)

    def _request(self, method: str, path: str, query: Mapping[str, str] | None = None, **more: Any) -> Any:
        return self.ask(Request(method, path, query or {}, **more))

    def _exchange(self, request: Request) -> Reply:
        try:
            return self._ask_each(request)
        except Retryable as failure:
            if self._patience <= 0 or not self._servers.worth_waiting(failure):
                raise ClientError(str(failure), failure.status) from None
        return self._persist(request)

    def _persist(self, request: Request) -> Reply:
        from tenacity import Retrying  # noqa: PLC0415 - as in patiently

        try:
            reply: Reply = Retrying(**patiently(self._patience))(self._ask_each, request)
        except Retryable as failure:
            raise ClientError(str(failure), failure.status) from None
        return reply

    def _ask_each(self, request: Request) -> Reply:
        """The first answer; the server that gave it is asked first from then on."""
        failures: list[Retryable] = []
        for server in self._servers:
            try:
                answer = self._ask(server, request)
            except Retryable as failure:
                failures.append(failure)
            else:
                self._servers.answered(server)
                return answer
        raise self._servers.failure(failures)

    def _ask(self, server: Server, request: Request) -> Reply:
        connection = self._connect(server, self._timeout + request.extra)
        sent = {**self._headers, **request.headers, **request.content_type}
        try:
            connection.request(request.method, server.prefix + request.target, body=request.body, headers=sent)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise unanswered(server.url, request, error) from None
        except BaseException:
            connection.close()  # an interrupted exchange leaves half an answer behind
            raise
        self._put_back(server, connection)
        if response.status in request.accept:
            return Reply(server, content, response.getheader("Link", ""))
        raise refusal(server.url, request, response.status, content)

    def _connect(self, server: Server, timeout: float) -> http.client.HTTPConnection:
        """A connection that is open. Raises ClientError: nothing was sent yet."""
        idle = self._take(server)
        if idle is not None:
            assert idle.sock is not None
            idle.sock.settimeout(timeout)
            return idle
        connection = self._opened(server, timeout)
        try:
            connection.connect()
        except OSError as error:
            raise unconnected(server.url, error) from None
        return connection

    def _opened(self, server: Server, timeout: float) -> http.client.HTTPConnection:
        if not server.secure:
            return http.client.HTTPConnection(server.host, server.port, timeout=timeout)
        if self._tls is None:
            self._tls = trusting(self._ca_file)
        return http.client.HTTPSConnection(server.host, server.port, timeout=timeout, context=self._tls)

    def _take(self, server: Server) -> http.client.HTTPConnection | None:
        """An idle connection that its server has not closed meanwhile."""
        while True:
            try:
                connection = self._idle[server.url].pop()
            except IndexError:
                return None
            if not _stale(connection):
                return connection
            connection.close()

    def _put_back(self, server: Server, connection: http.client.HTTPConnection) -> None:
        if connection.sock is not None and len(self._idle[server.url]) < IDLE:
            self._idle[server.url].append(connection)
        else:
            connection.close()


def _close(idle: Mapping[str, list[http.client.HTTPConnection]]) -> None:
    for connections in idle.values():
        with contextlib.suppress(IndexError):
            while True:
                connections.pop().close()


def _stale(connection: http.client.HTTPConnection) -> bool:
    """True if the server closed it meanwhile: there is something to read although nothing was asked."""
    poll = select.poll()  # unlike select, for any number of open files
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))
