"""The client of event loops, with the rules of the blocking one."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

import httpx

from taskd.client import request as ask_for
from taskd.client import talks
from taskd.client.failures import ClientError, Retryable, given_up, refusal, unanswered, unconnected
from taskd.client.request import Request
from taskd.client.servers import DEFAULT_SERVER, Server, Servers, headers, patiently, trusting
from taskd.client.talks import Reply, Talk

T = TypeVar("T")

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

    async def submit(self, job: Mapping[str, Any], key: str | None = None) -> dict[str, Any]:
        """Submit one job (the fields of POST /jobs), with this Idempotency-Key or one that is made up; the stored job.

        Raises ClientError, as every method.
        """
        return await self._hold(talks.submit(job, key))

    async def explain(self, job_id: int | str) -> dict[str, Any]:
        """Why a job is not running or not finished. `status` 404 of the error: it is unknown."""
        found: dict[str, Any] = await self.ask(ask_for.explaining(job_id))
        return found

    async def logs(self, job_id: int | str, attempt: int | None = None, cursor: str | None = None) -> dict[str, Any]:
        """A page of what the job's attempts have logged and printed, as GET /jobs/{id}/logs."""
        found: dict[str, Any] = await self.ask(ask_for.logs(job_id, attempt, cursor))
        return found

    async def submit_batch(self, jobs: Sequence[Mapping[str, Any]]) -> list[int]:
        """Submit all of `jobs`, or none; their ids in order."""
        ids: list[int] = (await self.send_batch(jobs))["ids"]
        return ids

    async def send_batch(self, jobs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """As `submit_batch`, with the whole answer: `ids`, and which of them are `duplicates`."""
        return await self._hold(talks.send_batch(jobs))

    async def job(self, job_id: int | str, wait: float = 0.0) -> dict[str, Any]:
        """One job; with `wait` (seconds, at most 60) as soon as it is final. `status` 404 of the error: it is unknown."""
        return await self._hold(talks.job(job_id, wait))

    async def wait(self, job_id: int | str, seconds: float | None = None) -> dict[str, Any]:
        """The job once it is final, or as it is after `seconds` (None: no limit).

        Raises TimeoutError if no scheduler says by then, or within a second more, how it stands.
        """
        return await self._hold(talks.wait(job_id, seconds))

    async def cancel(self, job_id: int | str) -> dict[str, Any]:
        """Cancel one job; the job, also if it was cancelled before (an answer may have been lost).

        `status` 404 of the error: it is unknown; 409: it ended otherwise, `problem["job_status"]` says how.
        """
        return await self._hold(talks.cancel(job_id))

    async def retry(self, job_id: int | str) -> dict[str, Any]:
        """Try a job again that failed or was cancelled: the new job, with `duplicate` if it was made before.

        `status` 404 of the error: it is unknown; 409: it may not be retried, `problem["job_status"]` says why.
        """
        return await self._hold(talks.retry(job_id))

    async def list_jobs(self, **wanted: str | int | None) -> list[dict[str, Any]]:
        """A page of jobs, newest first; `wanted` are the parameters of GET /jobs."""
        return await self._hold(talks.list_jobs(wanted))

    async def history(self, wanted: Mapping[str, str]) -> AsyncIterator[bytes]:
        """Finished jobs as NDJSON, stretch by stretch, newest first; `wanted` are the parameters of GET /history."""
        query: Mapping[str, str] | None = wanted
        while query is not None:
            stretch, query = await self._hold(talks.history_page(query))
            yield stretch

    async def select(
        self, action: Literal["cancel", "retry"], wanted: Mapping[str, Any]
    ) -> AsyncIterator[dict[str, Any]]:
        """Cancel or retry by filter (`wanted`: the body of POST /jobs/cancel, /jobs/retry): each page's answer."""
        following: Mapping[str, Any] | None = wanted
        while following is not None:
            page, following = await self._hold(talks.select_page(action, following))
            yield page

    async def configure(self, key: str, value: Any, who: str) -> dict[str, Any]:
        """Set one key of the live configuration; the new version."""
        return await self._hold(talks.configure(key, value, who))

    async def unconfigure(self, key: str, who: str) -> dict[str, Any]:
        """Unset one key of the live configuration; the new version."""
        return await self._hold(talks.unconfigure(key, who))

    async def config_history(self) -> list[dict[str, Any]]:
        """The newest versions of the live configuration, newest first."""
        return await self._hold(talks.config_history())

    async def roll_back(self, version: int, who: str) -> dict[str, Any]:
        """Bring the values of an old version of the live configuration back; the new version."""
        return await self._hold(talks.roll_back(version, who))

    async def worker(self, worker_id: str) -> dict[str, Any]:
        """One live worker as GET /workers shows it; an error if there is none of that id."""
        return await self._hold(talks.worker(worker_id))

    async def schedule(
        self,
        method: str,
        *parts: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """What /schedules/PARTS answers."""
        answer: dict[str, Any] = await self.ask(ask_for.schedules(method, *parts, query=query, body=body))
        return answer

    async def remove_schedule(self, name: str) -> dict[str, Any]:
        """Remove one schedule. `status` 404 of the error: there is none, and this call has not removed it."""
        return await self._hold(talks.remove_schedule(name))

    async def schedules(self) -> list[dict[str, Any]]:
        """Every schedule, by name."""
        return await self._hold(talks.schedules())

    async def get(self, path: str) -> Any:
        """The document at `path`, for instance /leader."""
        return await self.ask(Request("GET", path))

    async def health(self) -> dict[str, Any]:
        """GET /health of the first scheduler that answers; being unhealthy is an answer too."""
        return await self._hold(talks.health())

    async def ask(self, request: Request) -> Any:
        """The answer's document."""
        return await self._hold(talks.ask(request))

    async def _hold(self, talk: Talk[T]) -> T:
        """Hold a talk to its end."""
        try:
            request = next(talk)
            while True:
                try:
                    reply = await self._exchange(request)
                except ClientError as error:
                    request = talk.throw(error)
                else:
                    request = talk.send(reply)
        except StopIteration as end:
            found: T = end.value
            return found

    async def _exchange(self, request: Request) -> Reply:
        tried: list[Retryable] = []
        try:
            return await self._ask_each(request, tried)
        except Retryable as failure:
            if request.left <= 0 or self._patience <= 0 or not self._servers.worth_waiting(failure):
                raise given_up(request, [*tried, failure]) from None
        return await self._persist(request, tried)

    async def _persist(self, request: Request, tried: list[Retryable]) -> Reply:
        from tenacity import AsyncRetrying  # noqa: PLC0415 - as in patiently

        try:
            reply: Reply = await AsyncRetrying(**patiently(self._patience, request))(self._ask_each, request, tried)
        except Retryable as failure:
            raise given_up(request, [*tried, failure]) from None
        return reply

    async def _ask_each(self, request: Request, tried: list[Retryable]) -> Reply:
        """Return the first answer; the server that gave it is asked first from then on. `tried` gets every failure."""
        failures: list[Retryable] = []
        for server in self._servers:
            try:
                answer = await self._ask(server, request)
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

    async def _ask(self, server: Server, request: Request) -> Reply:
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
            return Reply(server.url, response.content, response.headers.get("Link", ""))
        raise refusal(server.url, request, response.status_code, response.content)


def _plain(error: httpx.TransportError) -> BaseException:
    """As the blocking client knows it: where time ran out, TimeoutError."""
    return TimeoutError() if isinstance(error, httpx.TimeoutException) else error
