"""The client of the command line and of threads."""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import ssl
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

from taskd.client import request as ask_for
from taskd.client import talks
from taskd.client.failures import ClientError, Retryable, given_up, refusal, unanswered, unconnected
from taskd.client.request import Request
from taskd.client.servers import DEFAULT_SERVER, Server, Servers, headers, patiently, trusting
from taskd.client.talks import Reply, Talk

T = TypeVar("T")
#: How many connections to one address stay open while nobody uses them.
IDLE = 10


class Client:
    """Talks to the schedulers at `servers` (URLs, comma-separated).

    Threads may share it: each request under way has a connection of its own.

    `timeout` is the seconds until a request counts as unanswered; `patience` the seconds for which one that may be repeated
    is. A server that answered before is waited for like that; where none ever did, the failure is told at once.
    `ca_file` has the authorities that https:// trusts; without, the system's. `loads` decodes answers.
    """

    def __init__(
        self,
        servers: str = DEFAULT_SERVER,
        *,
        token: str | None = None,
        ca_file: str | None = None,
        timeout: float = 10.0,
        patience: float = 5.0,
        loads: Callable[[bytes], Any] = json.loads,
    ) -> None:
        self._servers = Servers(servers)
        self._headers = headers(token)
        self._ca_file = ca_file
        self._tls: ssl.SSLContext | None = None
        self._timeout = timeout
        self._patience = patience
        self._loads = loads
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

    def submit(self, job: Mapping[str, Any], key: str | None = None) -> dict[str, Any]:
        """Submit one job (the fields of POST /jobs); the stored job. Raises ClientError, as every method.

        `key` is an Idempotency-Key: the same job with the same key makes no second job. Without one, one is made up.
        """
        return self._hold(talks.submit(job, key))

    def submit_batch(self, jobs: Sequence[Mapping[str, Any]]) -> list[int]:
        """Submit all of `jobs`, or none; their ids in order."""
        ids: list[int] = self.send_batch(jobs)["ids"]
        return ids

    def send_batch(self, jobs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """As `submit_batch`, with the whole answer: `ids`, and which of them are `duplicates`."""
        return self._hold(talks.send_batch(jobs))

    def job(self, job_id: int | str, wait: float = 0.0) -> dict[str, Any]:
        """One job; with `wait` (seconds, at most 60) as soon as it is final. `status` 404 of the error: it is unknown."""
        return self._hold(talks.job(job_id, wait))

    def logs(self, job_id: int | str, attempt: int | None = None, cursor: str | None = None) -> dict[str, Any]:
        """A page of what the job's attempts have logged and printed, as GET /jobs/{id}/logs."""
        found: dict[str, Any] = self.ask(ask_for.logs(job_id, attempt, cursor))
        return found

    def explain(self, job_id: int | str) -> dict[str, Any]:
        """Why a job is not running or not finished. `status` 404 of the error: it is unknown."""
        found: dict[str, Any] = self.ask(ask_for.explaining(job_id))
        return found

    def wait(self, job_id: int | str, seconds: float | None = None) -> dict[str, Any]:
        """The job once it is final, or as it is after `seconds` (None: no limit).

        Raises TimeoutError if no scheduler says by then, or within a second more, how it stands.
        """
        return self._hold(talks.wait(job_id, seconds))

    def cancel(self, job_id: int | str) -> dict[str, Any]:
        """Cancel one job; the job, also if it was cancelled before (an answer may have been lost).

        `status` 404 of the error: it is unknown; 409: it ended otherwise, `problem["job_status"]` says how.
        """
        return self._hold(talks.cancel(job_id))

    def retry(self, job_id: int | str) -> dict[str, Any]:
        """Try a job again that failed or was cancelled: the new job, with `duplicate` if it was made before.

        `status` 404 of the error: it is unknown; 409: it may not be retried, `problem["job_status"]` says why.
        """
        return self._hold(talks.retry(job_id))

    def list_jobs(self, **wanted: str | int | None) -> list[dict[str, Any]]:
        """A page of jobs, newest first; `wanted` are the parameters of GET /jobs."""
        return self._hold(talks.list_jobs(wanted))

    def history(self, wanted: Mapping[str, str]) -> Iterator[bytes]:
        """Finished jobs as NDJSON, stretch by stretch, newest first; `wanted` are the parameters of GET /history."""
        query: Mapping[str, str] | None = wanted
        while query is not None:
            stretch, query = self._hold(talks.history_page(query))
            yield stretch

    def select(self, action: Literal["cancel", "retry"], wanted: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Cancel or retry by filter (`wanted`: the body of POST /jobs/cancel, /jobs/retry): each page's answer."""
        following: Mapping[str, Any] | None = wanted
        while following is not None:
            page, following = self._hold(talks.select_page(action, following))
            yield page

    def configure(self, key: str, value: Any, who: str) -> dict[str, Any]:
        """Set one key of the live configuration; the new version."""
        return self._hold(talks.configure(key, value, who))

    def unconfigure(self, key: str, who: str) -> dict[str, Any]:
        """Unset one key of the live configuration; the new version."""
        return self._hold(talks.unconfigure(key, who))

    def config_history(self) -> list[dict[str, Any]]:
        """The newest versions of the live configuration, newest first."""
        return self._hold(talks.config_history())

    def roll_back(self, version: int, who: str) -> dict[str, Any]:
        """Bring the values of an old version of the live configuration back; the new version."""
        return self._hold(talks.roll_back(version, who))

    def worker(self, worker_id: str) -> dict[str, Any]:
        """One live worker as GET /workers shows it; an error if there is none of that id."""
        return self._hold(talks.worker(worker_id))

    def schedule(
        self,
        method: str,
        *parts: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """What /schedules/PARTS answers."""
        answer: dict[str, Any] = self.ask(ask_for.schedules(method, *parts, query=query, body=body))
        return answer

    def remove_schedule(self, name: str) -> dict[str, Any]:
        """Remove one schedule. `status` 404 of the error: there is none, and this call has not removed it."""
        return self._hold(talks.remove_schedule(name))

    def schedules(self) -> list[dict[str, Any]]:
        """Every schedule, by name."""
        return self._hold(talks.schedules())

    def get(self, path: str) -> Any:
        """The document at `path`, for instance /leader."""
        return self.ask(Request("GET", path))

    def health(self) -> dict[str, Any]:
        """GET /health of the first scheduler that answers; being unhealthy is an answer too."""
        return self._hold(talks.health())

    def ask(self, request: Request) -> Any:
        """The answer's document."""
        return self._hold(talks.ask(request))

    def _hold(self, talk: Talk[T]) -> T:
        """Hold a talk to its end."""
        try:
            request = next(talk)
            while True:
                try:
                    reply = self._exchange(request)
                except ClientError as error:
                    request = talk.throw(error)
                else:
                    request = talk.send(reply)
        except StopIteration as end:
            found: T = end.value
            return found

    def _exchange(self, request: Request) -> Reply:
        tried: list[Retryable] = []
        try:
            return self._ask_each(request, tried)
        except Retryable as failure:
            if request.left <= 0 or self._patience <= 0 or not self._servers.worth_waiting(failure):
                raise given_up(request, [*tried, failure]) from None
        return self._persist(request, tried)

    def _persist(self, request: Request, tried: list[Retryable]) -> Reply:
        from tenacity import Retrying  # noqa: PLC0415 - as in patiently

        try:
            reply: Reply = Retrying(**patiently(self._patience, request))(self._ask_each, request, tried)
        except Retryable as failure:
            raise given_up(request, [*tried, failure]) from None
        return reply

    def _ask_each(self, request: Request, tried: list[Retryable]) -> Reply:
        """Return the first answer; the server that gave it is asked first from then on. `tried` gets every failure."""
        failures: list[Retryable] = []
        for server in self._servers:
            try:
                answer = self._ask(server, request)
            except Retryable as failure:
                failures.append(failure)
                tried.append(failure)
                if request.left <= 0:
                    self._servers.unheard(server)
                    break
            else:
                self._servers.answered(server)
                return answer
        raise self._servers.failure(failures)

    def _ask(self, server: Server, request: Request) -> Reply:
        connection = self._connect(server, request.within(self._timeout))
        connection.sock.settimeout(request.within(self._timeout + request.extra))
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
            return Reply(server.url, content, response.getheader("Link", ""), self._loads)
        raise refusal(server.url, request, response.status, content)

    def _connect(self, server: Server, timeout: float) -> http.client.HTTPConnection:
        """A connection that is open, or is so after `timeout` seconds. Raises ClientError: nothing was sent yet."""
        idle = self._take(server)
        if idle is not None:
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
