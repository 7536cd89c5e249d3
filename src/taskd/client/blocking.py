"""The client for the command line and for threads."""

from __future__ import annotations

import http.client
import json
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

from taskd.client import flows, requests
from taskd.client.connections import ConnectionPool
from taskd.client.failures import ClientError, Retryable, given_up, refusal, unanswered
from taskd.client.flows import ClientResponse, Flow
from taskd.client.requests import ClientRequest
from taskd.client.servers import DEFAULT_SERVER, ServerAddress, ServerList, headers, retry_options

T = TypeVar("T")


class Client:
    """Sends requests to the schedulers at `servers` (URLs, comma-separated).

    Threads may share a client: each request under way has a connection of its own.

    `timeout`: seconds until a request counts as unanswered. `patience`: seconds for which a request that may be repeated is
    retried; if no server has ever responded, the error is raised at once. `ca_file`: the authorities that https:// trusts, by
    default the system's. `loads` decodes responses.
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
        self._servers = ServerList(servers)
        self._headers = headers(token)
        self._timeout = timeout
        self._patience = patience
        self._loads = loads
        self._connections = ConnectionPool(self._servers, ca_file)
        # A script that ends without `close` must not get warnings about open sockets.
        weakref.finalize(self, self._connections.close)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle connections; the next request opens new ones."""
        self._connections.close()

    def submit(self, job: Mapping[str, Any], key: str | None = None) -> dict[str, Any]:
        """Submit one job (the fields of POST /jobs); return the stored job. Raises ClientError, as every method.

        `key` is an Idempotency-Key: a repeated submit with the same key makes no second job. Without one, a key is generated.
        """
        return self._run(flows.submit(job, key))

    def submit_batch(self, jobs: Sequence[Mapping[str, Any]]) -> list[int]:
        """Submit all of `jobs`, or none; return their ids in order."""
        ids: list[int] = self.send_batch(jobs)["ids"]
        return ids

    def send_batch(self, jobs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Submit all of `jobs`, or none; return `ids`, and those of them that are `duplicates`."""
        return self._run(flows.send_batch(jobs))

    def job(self, job_id: int | str, wait: float = 0.0) -> dict[str, Any]:
        """Return one job; with `wait` (seconds, at most 60) once it is final. Raises ClientError: `status` 404 if unknown."""
        return self._run(flows.job(job_id, wait))

    def logs(self, job_id: int | str, attempt: int | None = None, cursor: str | None = None) -> dict[str, Any]:
        """Return a page of the lines that a job's attempts logged and printed, as GET /jobs/{id}/logs."""
        page: dict[str, Any] = self.ask(requests.logs(job_id, attempt, cursor))
        return page

    def explain(self, job_id: int | str) -> dict[str, Any]:
        """Explain why a job is not running or not finished. Raises ClientError with `status` 404 for an unknown job."""
        explanation: dict[str, Any] = self.ask(requests.explain(job_id))
        return explanation

    def wait(self, job_id: int | str, seconds: float | None = None) -> dict[str, Any]:
        """Return the job once it is final, or its state after `seconds` (None: no limit).

        Raises TimeoutError if no scheduler responds by then, or within a second more.
        """
        return self._run(flows.wait(job_id, seconds))

    def cancel(self, job_id: int | str) -> dict[str, Any]:
        """Cancel one job; return it, also if it was cancelled before (a response may have been lost).

        Raises ClientError: `status` 404 for an unknown job, 409 if it ended otherwise, as `problem["job_status"]`.
        """
        return self._run(flows.cancel(job_id))

    def retry(self, job_id: int | str) -> dict[str, Any]:
        """Retry a job that failed or was cancelled; return the new job, with `duplicate` if it was made before.

        Raises ClientError: `status` 404 for an unknown job, 409 if its status, `problem["job_status"]`, does not allow it.
        """
        return self._run(flows.retry(job_id))

    def list_jobs(self, **wanted: str | int | None) -> list[dict[str, Any]]:
        """Return a page of jobs, newest first; `wanted` are the parameters of GET /jobs."""
        return self._run(flows.list_jobs(wanted))

    def history(self, wanted: Mapping[str, str]) -> Iterator[bytes]:
        """Yield finished jobs as NDJSON, stretch by stretch, newest first; `wanted` are the parameters of GET /history."""
        query: Mapping[str, str] | None = wanted
        while query is not None:
            stretch, query = self._run(flows.history_page(query))
            yield stretch

    def select(self, action: Literal["cancel", "retry"], wanted: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Cancel or retry by filter (`wanted`: the body of POST /jobs/cancel or /jobs/retry); yield the result of each page."""
        following: Mapping[str, Any] | None = wanted
        while following is not None:
            page, following = self._run(flows.select_page(action, following))
            yield page

    def configure(self, key: str, value: Any, who: str) -> dict[str, Any]:
        """Set one key of the live configuration; return the new version."""
        return self._run(flows.configure(key, value, who))

    def unconfigure(self, key: str, who: str) -> dict[str, Any]:
        """Unset one key of the live configuration; return the new version."""
        return self._run(flows.unconfigure(key, who))

    def config_history(self) -> list[dict[str, Any]]:
        """Return the latest versions of the live configuration, newest first."""
        return self._run(flows.config_history())

    def roll_back(self, version: int, who: str) -> dict[str, Any]:
        """Restore the values of an old version of the live configuration; return the new version."""
        return self._run(flows.roll_back(version, who))

    def worker(self, worker_id: str) -> dict[str, Any]:
        """Return one live worker, as in GET /workers. Raises ClientError if there is no worker of that id."""
        return self._run(flows.worker(worker_id))

    def schedule(
        self,
        method: str,
        *parts: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Send a request to /schedules/PARTS; return its document."""
        document: dict[str, Any] = self.ask(requests.schedules(method, *parts, query=query, body=body))
        return document

    def remove_schedule(self, name: str) -> dict[str, Any]:
        """Remove one schedule. Raises ClientError: `status` 404 if there is none, and this call did not remove it."""
        return self._run(flows.remove_schedule(name))

    def schedules(self) -> list[dict[str, Any]]:
        """Return every schedule, by name."""
        return self._run(flows.schedules())

    def get(self, path: str) -> Any:
        """Return the document at `path`, for example /leader."""
        return self.ask(ClientRequest("GET", path))

    def health(self) -> dict[str, Any]:
        """Return GET /health of the first scheduler that responds, healthy or not."""
        return self._run(flows.health())

    def ask(self, request: ClientRequest) -> Any:
        """Send a request; return the response's document."""
        return self._run(flows.ask(request))

    def _run(self, flow: Flow[T]) -> T:
        """Run a flow to its end."""
        try:
            request = next(flow)
            while True:
                try:
                    response = self._exchange(request)
                except ClientError as error:
                    request = flow.throw(error)
                else:
                    request = flow.send(response)
        except StopIteration as end:
            result: T = end.value
            return result

    def _exchange(self, request: ClientRequest) -> ClientResponse:
        tried: list[Retryable] = []
        try:
            return self._send_to_each(request, tried)
        except Retryable as failure:
            if request.left <= 0 or self._patience <= 0 or not self._servers.worth_waiting(failure):
                raise given_up(request, [*tried, failure]) from None
        return self._retry(request, tried)

    def _retry(self, request: ClientRequest, tried: list[Retryable]) -> ClientResponse:
        from tenacity import Retrying  # noqa: PLC0415 - as in retry_options

        try:
            response: ClientResponse = Retrying(**retry_options(self._patience, request))(
                self._send_to_each, request, tried
            )
        except Retryable as failure:
            raise given_up(request, [*tried, failure]) from None
        return response

    def _send_to_each(self, request: ClientRequest, tried: list[Retryable]) -> ClientResponse:
        """Return the first response; its server is tried first from then on. Each failure is appended to `tried`."""
        failures: list[Retryable] = []
        for server in self._servers:
            try:
                response = self._send(server, request)
            except Retryable as failure:
                failures.append(failure)
                tried.append(failure)
                if request.left <= 0:
                    self._servers.timed_out(server)
                    break
            else:
                self._servers.responded(server)
                return response
        raise self._servers.failure(failures)

    def _send(self, server: ServerAddress, request: ClientRequest) -> ClientResponse:
        connection = self._connections.take(server, request.within(self._timeout))
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
            connection.close()  # an interrupted exchange leaves half a response behind
            raise
        self._connections.put_back(server, connection)
        if response.status in request.accept:
            return ClientResponse(server.url, content, response.getheader("Link", ""), self._loads)
        raise refusal(server.url, request, response.status, content)
