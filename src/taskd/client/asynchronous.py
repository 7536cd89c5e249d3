"""The client for event loops; it follows the rules of the blocking one."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

import httpx

from taskd.client import flows, requests
from taskd.client.failures import ClientError, Retryable, given_up, refusal, unanswered, unconnected
from taskd.client.flows import ClientResponse, Flow
from taskd.client.requests import ClientRequest
from taskd.client.servers import DEFAULT_SERVER, ServerAddress, ServerList, headers, retry_options, tls_context

T = TypeVar("T")

#: No limit of connections: requests that wait for results must not keep others from submitting.
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=20)


class AsyncClient:
    """Sends requests to the schedulers at `servers` (URLs, comma-separated), in one event loop.

    The arguments are those of `taskd.client.Client`; the two clients differ only in how they wait.
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
        self._servers = ServerList(servers)
        self._timeout = timeout
        self._patience = patience
        self._http = httpx.AsyncClient(
            headers=dict(headers(token)),
            # A context with authorities takes a while to make; without https:// an empty one is enough.
            verify=tls_context(ca_file) if self._servers.secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            limits=_LIMITS,
            trust_env=False,  # as the blocking client: no proxies from the environment
        )

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the client cannot be used any more."""
        await self._http.aclose()

    async def submit(self, job: Mapping[str, Any], key: str | None = None) -> dict[str, Any]:
        """Submit one job (the fields of POST /jobs); return the stored job. Raises ClientError, as every method.

        `key` is an Idempotency-Key: a repeated submit with the same key makes no second job. Without one, a key is generated.
        """
        return await self._run(flows.submit(job, key))

    async def explain(self, job_id: int | str) -> dict[str, Any]:
        """Explain why a job is not running or not finished. Raises ClientError with `status` 404 for an unknown job."""
        explanation: dict[str, Any] = await self.ask(requests.explain(job_id))
        return explanation

    async def logs(self, job_id: int | str, attempt: int | None = None, cursor: str | None = None) -> dict[str, Any]:
        """Return a page of the lines that a job's attempts logged and printed, as GET /jobs/{id}/logs."""
        page: dict[str, Any] = await self.ask(requests.logs(job_id, attempt, cursor))
        return page

    async def submit_batch(self, jobs: Sequence[Mapping[str, Any]]) -> list[int]:
        """Submit all of `jobs`, or none; return their ids in order."""
        ids: list[int] = (await self.send_batch(jobs))["ids"]
        return ids

    async def send_batch(self, jobs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Submit all of `jobs`, or none; return `ids`, and those of them that are `duplicates`."""
        return await self._run(flows.send_batch(jobs))

    async def job(self, job_id: int | str, wait: float = 0.0) -> dict[str, Any]:
        """Return one job; with `wait` (seconds, at most 60) once it is final. Raises ClientError: `status` 404 if unknown."""
        return await self._run(flows.job(job_id, wait))

    async def wait(self, job_id: int | str, seconds: float | None = None) -> dict[str, Any]:
        """Return the job once it is final, or its state after `seconds` (None: no limit).

        Raises TimeoutError if no scheduler responds by then, or within a second more.
        """
        return await self._run(flows.wait(job_id, seconds))

    async def cancel(self, job_id: int | str) -> dict[str, Any]:
        """Cancel one job; return it, also if it was cancelled before (a response may have been lost).

        Raises ClientError: `status` 404 for an unknown job, 409 if it ended otherwise, as `problem["job_status"]`.
        """
        return await self._run(flows.cancel(job_id))

    async def retry(self, job_id: int | str) -> dict[str, Any]:
        """Retry a job that failed or was cancelled; return the new job, with `duplicate` if it was made before.

        Raises ClientError: `status` 404 for an unknown job, 409 if its status, `problem["job_status"]`, does not allow it.
        """
        return await self._run(flows.retry(job_id))

    async def list_jobs(self, **wanted: str | int | None) -> list[dict[str, Any]]:
        """Return a page of jobs, newest first; `wanted` are the parameters of GET /jobs."""
        return await self._run(flows.list_jobs(wanted))

    async def history(self, wanted: Mapping[str, str]) -> AsyncIterator[bytes]:
        """Yield finished jobs as NDJSON, stretch by stretch, newest first; `wanted` are the parameters of GET /history."""
        query: Mapping[str, str] | None = wanted
        while query is not None:
            stretch, query = await self._run(flows.history_page(query))
            yield stretch

    async def select(
        self, action: Literal["cancel", "retry"], wanted: Mapping[str, Any]
    ) -> AsyncIterator[dict[str, Any]]:
        """Cancel or retry by filter (`wanted`: the body of POST /jobs/cancel or /jobs/retry); yield the result of each page."""
        following: Mapping[str, Any] | None = wanted
        while following is not None:
            page, following = await self._run(flows.select_page(action, following))
            yield page

    async def configure(self, key: str, value: Any, who: str) -> dict[str, Any]:
        """Set one key of the live configuration; return the new version."""
        return await self._run(flows.configure(key, value, who))

    async def unconfigure(self, key: str, who: str) -> dict[str, Any]:
        """Unset one key of the live configuration; return the new version."""
        return await self._run(flows.unconfigure(key, who))

    async def config_history(self) -> list[dict[str, Any]]:
        """Return the latest versions of the live configuration, newest first."""
        return await self._run(flows.config_history())

    async def roll_back(self, version: int, who: str) -> dict[str, Any]:
        """Restore the values of an old version of the live configuration; return the new version."""
        return await self._run(flows.roll_back(version, who))

    async def worker(self, worker_id: str) -> dict[str, Any]:
        """Return one live worker, as in GET /workers. Raises ClientError if there is no worker of that id."""
        return await self._run(flows.worker(worker_id))

    async def schedule(
        self,
        method: str,
        *parts: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Send a request to /schedules/PARTS; return its document."""
        document: dict[str, Any] = await self.ask(requests.schedules(method, *parts, query=query, body=body))
        return document

    async def remove_schedule(self, name: str) -> dict[str, Any]:
        """Remove one schedule. Raises ClientError: `status` 404 if there is none, and this call did not remove it."""
        return await self._run(flows.remove_schedule(name))

    async def schedules(self) -> list[dict[str, Any]]:
        """Return every schedule, by name."""
        return await self._run(flows.schedules())

    async def get(self, path: str) -> Any:
        """Return the document at `path`, for example /leader."""
        return await self.ask(ClientRequest("GET", path))

    async def health(self) -> dict[str, Any]:
        """Return GET /health of the first scheduler that responds, healthy or not."""
        return await self._run(flows.health())

    async def ask(self, request: ClientRequest) -> Any:
        """Send a request; return the response's document."""
        return await self._run(flows.ask(request))

    async def _run(self, flow: Flow[T]) -> T:
        """Run a flow to its end."""
        try:
            request = next(flow)
            while True:
                try:
                    response = await self._exchange(request)
                except ClientError as error:
                    request = flow.throw(error)
                else:
                    request = flow.send(response)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _exchange(self, request: ClientRequest) -> ClientResponse:
        tried: list[Retryable] = []
        try:
            return await self._send_to_each(request, tried)
        except Retryable as failure:
            if request.left <= 0 or self._patience <= 0 or not self._servers.worth_waiting(failure):
                raise given_up(request, [*tried, failure]) from None
        return await self._retry(request, tried)

    async def _retry(self, request: ClientRequest, tried: list[Retryable]) -> ClientResponse:
        from tenacity import AsyncRetrying  # noqa: PLC0415 - as in retry_options

        try:
            response: ClientResponse = await AsyncRetrying(**retry_options(self._patience, request))(
                self._send_to_each, request, tried
            )
        except Retryable as failure:
            raise given_up(request, [*tried, failure]) from None
        return response

    async def _send_to_each(self, request: ClientRequest, tried: list[Retryable]) -> ClientResponse:
        """Return the first response; its server is tried first from then on. Each failure is appended to `tried`."""
        failures: list[Retryable] = []
        for server in self._servers:
            try:
                response = await self._send(server, request)
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

    async def _send(self, server: ServerAddress, request: ClientRequest) -> ClientResponse:
        try:
            response = await self._http.request(
                request.method,
                server.url + request.target,
                content=request.body,
                headers={**request.headers, **request.content_type},
                timeout=httpx.Timeout(
                    request.within(self._timeout + request.extra), connect=request.within(self._timeout)
                ),
            )
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise unconnected(server.url, _plain(error)) from None
        except httpx.TransportError as error:
            raise unanswered(server.url, request, _plain(error)) from None
        if response.status_code in request.accept:
            return ClientResponse(server.url, response.content, response.headers.get("Link", ""))
        raise refusal(server.url, request, response.status_code, response.content)


def _plain(error: httpx.TransportError) -> BaseException:
    """Return the error that the blocking client would get: TimeoutError after a timeout."""
    return TimeoutError() if isinstance(error, httpx.TimeoutException) else error
