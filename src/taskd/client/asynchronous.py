"""The client of event loops, with the rules of the blocking one."""

from __future__ import annotations

import ssl
import time
from typing import Any

import httpx

from taskd.client import request as ask_for
from taskd.client.blocking import MAX_POLL
from taskd.client.failures import ClientError, Retryable, decode, refusal, unanswered, unconnected
from taskd.client.request import Request
from taskd.client.servers import DEFAULT_SERVER, Server, Servers, headers, patiently, trusting
from taskd.domain.job import FINAL

#: As many connections as there are requests under way: whoever waits for a result must not keep others from submitting.
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=20)


class AsyncClient:
    """Talks to the schedulers at `servers` (URLs, comma-separated), in one event loop.

    The arguments are those of `taskd.client.Client`, and so is what they mean: the two differ in how they wait only.
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
        self._timeout = timeout
        self._patience = patience
        self._http = httpx.AsyncClient(
            headers=dict(headers(token)),
            # A context takes a while to make; one that trusts nobody does where nothing is encrypted.
            verify=trusting(ca_file) if self._servers.secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            limits=_LIMITS,
            trust_env=False,  # as the blocking client: what is asked is the address that was given
        )

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections, for good."""
        await self._http.aclose()

    async def job(self, job_id: int, wait: float = 0.0) -> dict[str, Any]:
        """One job; with `wait` (seconds, at most 60) as soon as it is final. Raises ClientError, status 404 if unknown."""
        found: dict[str, Any] = await self.ask(ask_for.reading(job_id, wait))
        return found

    async def explain(self, job_id: int | str) -> dict[str, Any]:
        """Why a job is not running or not finished. Raises ClientError, status 404 if it is unknown."""
        found: dict[str, Any] = await self.ask(ask_for.explaining(job_id))
        return found

    async def wait(self, job_id: int, seconds: float | None = None) -> dict[str, Any]:
        """The job once it is final, or as it is after `seconds` (None: no limit). Raises ClientError."""
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            left = MAX_POLL if end is None else max(0.0, end - time.monotonic())
            found = await self.job(job_id, min(MAX_POLL, left))
            if found["status"] in FINAL or left <= 0:
                return found

    async def cancel(self, job_id: int) -> dict[str, Any]:
        """Cancel one job; the job, also if it was cancelled before (an answer may have been lost).

        Raises ClientError, status 404 if it is unknown, 409 if it ended otherwise: `problem["job_status"]` says how.
        """
        try:
            found: dict[str, Any] = await self.ask(ask_for.action(job_id, "cancel"))
        except ClientError as error:
            if error.problem.get("job_status") != "cancelled":
                raise
            found = await self.job(job_id)
        return found

    async def ask(self, request: Request) -> Any:
        """The answer's document. Raises ClientError."""
        try:
            return await self._ask_each(request)
        except Retryable as failure:
            if self._patience <= 0 or not self._servers.worth_waiting(failure):
                raise ClientError(str(failure), failure.status) from None
        return await self._persist(request)

    async def _persist(self, request: Request) -> Any:
        from tenacity import AsyncRetrying  # noqa: PLC0415 - as in patiently

        try:
            return await AsyncRetrying(**patiently(self._patience))(self._ask_each, request)
        except Retryable as failure:
            raise ClientError(str(failure), failure.status) from None

    async def _ask_each(self, request: Request) -> Any:
        """The first answer; the server that gave it is asked first from then on."""
        failures: list[Retryable] = []
        for server in self._servers:
            try:
                answer = await self._ask(server, request)
            except Retryable as failure:
                failures.append(failure)
            else:
                self._servers.answered(server)
                return answer
        raise self._servers.failure(failures)

    async def _ask(self, server: Server, request: Request) -> Any:
        try:
            response = await self._http.request(
                request.method,
                server.url + request.target,
                content=request.body,
                headers={**request.headers, **request.content_type},
                timeout=self._timeout + request.extra,
            )
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise unconnected(server.url, _plain(error)) from None
        except httpx.TransportError as error:
            raise unanswered(server.url, request, _plain(error)) from None
        if response.status_code in request.accept:
            return decode(server.url, response.content)
        raise refusal(server.url, request, response.status_code, response.content)


def _plain(error: httpx.TransportError) -> BaseException:
    """As the blocking client knows it: where time ran out, TimeoutError."""
    return TimeoutError() if isinstance(error, httpx.TimeoutException) else error
