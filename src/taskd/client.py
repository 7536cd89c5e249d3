"""The HTTP client of the command line.

It takes several addresses and outlives a scheduler: what one address cannot answer, the next one may. A request is sent
again only where that is safe: reads, cancels, retries, submits (each has a key, its own or one made up), and batches whose
jobs all have a dedupe_key or that certainly were not taken.
Built on http.client, which loads in a quarter of the time that a bigger HTTP library takes: `taskd status` should feel instant.
"""

from __future__ import annotations

import http.client
import json
import re
import select
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit
from uuid import uuid4

from taskd.domain.errors import TaskdError

DEFAULT_SERVER = "http://localhost:8080"
#: The most seconds that one GET /jobs/{id} may be asked to wait.
MAX_POLL = 30.0
#: The query of the next page in a Link header.
_NEXT = re.compile(r'\?([^>]*)>; rel="next"')


class ClientError(TaskdError):
    """A request that failed. `status` is the HTTP status, or None if there was no answer; `problem` what the answer said."""

    def __init__(self, message: str, status: int | None = None, problem: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.problem = dict(problem or {})


class _Retryable(ClientError):
    """No answer, or 503, and nothing was changed by asking: somebody else may be asked, or the same one later.

    `silent` means that nothing listens there.
    """

    def __init__(self, message: str, status: int | None = None, *, silent: bool = False) -> None:
        super().__init__(message, status)
        self.silent = silent


class _Server(NamedTuple):
    """One address, taken apart."""

    url: str
    secure: bool
    host: str
    port: int | None
    prefix: str


class _Reply(NamedTuple):
    """A good answer: who gave it, what it says, and where it goes on."""

    server: _Server
    content: bytes
    link: str


class Client:
    """Talks to the schedulers at `servers` (URLs, comma-separated), one thread at a time.

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
        self._servers = [_parse(url) for url in servers.split(",") if url.strip()]
        if not self._servers:
            raise ClientError("there is no server to ask: give --server or TASKD_SERVER, as in http://localhost:8080")
        self._headers = {"Accept": "application/json", "User-Agent": "taskd"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._ca_file = ca_file
        self._tls: ssl.SSLContext | None = None
        self._timeout = timeout
        self._patience = patience
        self._met = False
        self._connections: dict[str, http.client.HTTPConnection] = {}

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def submit(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Submit one job (the fields of POST /jobs); the stored job. Raises ClientError."""
        body = json.dumps(job, allow_nan=False, ensure_ascii=False).encode()
        # A key of our own makes it safe to send it again; it is not worth one where the job has one.
        headers = {} if job.get("dedupe_key") is not None else {"Idempotency-Key": uuid4().hex}
        answer: dict[str, Any] = self._request("POST", "/jobs", body=body, headers=headers)
        return answer

    def submit_batch(self, jobs: Sequence[Mapping[str, Any]]) -> list[int]:
        """Submit all of `jobs`, or none; their ids in order. Raises ClientError."""
        ids: list[int] = self.send_batch(jobs)["ids"]
        return ids

    def send_batch(self, jobs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """As `submit_batch`, with the whole answer: `ids`, and which of them are `duplicates`."""
        body = json.dumps({"jobs": jobs}, allow_nan=False, ensure_ascii=False).encode()
        safe = all(job.get("dedupe_key") is not None for job in jobs)
        answer: dict[str, Any] = self._request("POST", "/jobs/batch", body=body, safe=safe)
        return answer

    def job(self, job_id: int | str, wait: float = 0.0) -> dict[str, Any]:
        """One job; with `wait` (seconds, at most 60) as soon as it is final. Raises ClientError, status 404 if unknown."""
        query = {"wait": f"{wait:g}"} if wait > 0 else {}
        found: dict[str, Any] = self._request("GET", f"/jobs/{quote(str(job_id), safe='')}", query, extra=wait)
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
        path = f"/jobs/{quote(str(job_id), safe='')}"
        try:
            found: dict[str, Any] = self._request("POST", f"{path}/cancel")
        except ClientError as error:
            if error.problem.get("job_status") != "cancelled":
                raise
            found = self._request("GET", path)
        return found

    def retry(self, job_id: int | str) -> dict[str, Any]:
        """Try a job again that failed or was cancelled: the new job, with `duplicate` if it was made before.

        Raises ClientError, status 404 if it is unknown, 409 if it may not be retried: `problem["job_status"]` says why.
        """
        found: dict[str, Any] = self._request("POST", f"/jobs/{quote(str(job_id), safe='')}/retry")
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
            reply = self._exchange("GET", "/history", query)
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
            body = json.dumps({**wanted, **cursor}).encode()
            page: dict[str, Any] = self._request("POST", f"/jobs/{action}", body=body)
            yield page
            if page["cursor"] is None:
                return
            cursor = {"cursor": page["cursor"]}

    def configure(self, key: str, value: Any, who: str) -> dict[str, Any]:
        """Set one key of the live configuration; the new version. Raises ClientError."""
        body = json.dumps({"value": value, "who": who}).encode()
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
        body = json.dumps({"version": version, "who": who}).encode()
        made: dict[str, Any] = self._request("POST", "/config/rollback", body=body)
        return made

    def get(self, path: str) -> Any:
        """The document at `path`, for instance /leader. Raises ClientError."""
        return self._request("GET", path)

    def health(self) -> dict[str, Any]:
        """GET /health of the first scheduler that answers; being unhealthy is an answer too. Raises ClientError."""
        found: dict[str, Any] = self._request("GET", "/health", accept=(200, 503))
        return found

    def _request(self, method: str, path: str, query: Mapping[str, str] | None = None, **more: Any) -> Any:
        """As `_exchange`, with the answer's JSON decoded."""
        reply = self._exchange(method, path, query, **more)
        return _decode(reply.content, reply.server)

    def _exchange(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        safe: bool = True,
        extra: float = 0.0,
        accept: tuple[int, ...] = (200, 201),
    ) -> _Reply:
        target = f"{path}?{urlencode(query)}" if query else path

        def ask_all() -> _Reply:
            return self._ask_each(
                lambda server: self._ask(server, method, target, body, headers or {}, safe, extra, accept)
            )

        try:
            return ask_all()
        except _Retryable as failure:
            if self._patience <= 0 or (failure.silent and not self._met):
                raise ClientError(str(failure), failure.status) from None
        return self._persist(ask_all)

    def _persist(self, ask_all: Callable[[], _Reply]) -> _Reply:
        # Imported here: only a client in trouble pays for it.
        from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential  # noqa: PLC0415

        retrying = Retrying(
            retry=retry_if_exception_type(_Retryable),
            stop=stop_after_delay(self._patience),
            wait=wait_random_exponential(multiplier=0.2, max=2.0),
            reraise=True,
        )
        try:
            reply: _Reply = retrying(ask_all)
        except _Retryable as failure:
            raise ClientError(str(failure), failure.status) from None
        return reply

    def _ask_each(self, ask: Callable[[_Server], _Reply]) -> _Reply:
        """The first answer; the server that gave it is asked first from then on."""
        failures: list[_Retryable] = []
        for server in list(self._servers):
            try:
                answer = ask(server)
            except _Retryable as failure:
                failures.append(failure)
            else:
                self._met = True
                self._servers.remove(server)
                self._servers.insert(0, server)
                return answer
        # A server that answered "not now" says more than one that is not there.
        told = next((f for f in failures if not f.silent), None)
        if told is not None:
            raise told
        raise _Retryable(_nobody(self._servers, failures), silent=True)

    def _ask(
        self,
        server: _Server,
        method: str,
        target: str,
        body: bytes | None,
        more: Mapping[str, str],
        safe: bool,
        extra: float,
        accept: tuple[int, ...],
    ) -> _Reply:
        connection = self._connect(server, self._timeout + extra)
        headers = {**self._headers, **more, **({"Content-Type": "application/json"} if body is not None else {})}
        try:
            connection.request(method, server.prefix + target, body=body, headers=headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._drop(server)
            message = f"{server.url} did not answer {method} {target.partition('?')[0]} ({_reason(error)})"
            if safe:
                raise _Retryable(message) from None
            raise ClientError(
                f"{message}: it may have been done or not; a dedupe_key for each job makes it safe to repeat"
            ) from None
        except BaseException:
            self._drop(server)  # an interrupted exchange leaves half an answer behind
            raise
        if response.status in accept:
            return _Reply(server, content, response.getheader("Link", ""))
        raise _refusal(server, response.status, content, safe)

    def _connect(self, server: _Server, timeout: float) -> http.client.HTTPConnection:
        """A connection that is open. Raises _Retryable: nothing was sent yet."""
        connection = self._connections.get(server.url)
        if connection is not None and connection.sock is not None and not _stale(connection):
            connection.sock.settimeout(timeout)
            return connection
        self._drop(server)
        connection = self._opened(server, timeout)
        try:
            connection.connect()
        except ssl.SSLCertVerificationError as error:
            raise ClientError(
                f"{server.url} has a certificate that is not accepted ({error.verify_message.rstrip('.')}): "
                "TASKD_CA_FILE names the file with the authorities to trust"
            ) from None
        except OSError as error:
            raise _Retryable(f"{server.url} ({_reason(error)})", silent=True) from None
        self._connections[server.url] = connection
        return connection

    def _opened(self, server: _Server, timeout: float) -> http.client.HTTPConnection:
        if not server.secure:
            return http.client.HTTPConnection(server.host, server.port, timeout=timeout)
        if self._tls is None:
            self._tls = _trusting(self._ca_file)
        return http.client.HTTPSConnection(server.host, server.port, timeout=timeout, context=self._tls)

    def _drop(self, server: _Server) -> None:
        connection = self._connections.pop(server.url, None)
        if connection is not None:
            connection.close()


def _trusting(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ClientError(f"TASKD_CA_FILE: {ca_file} is no file with certificates ({_reason(error)})") from None


def _stale(connection: http.client.HTTPConnection) -> bool:
    """True if the server closed it meanwhile: there is something to read although nothing was asked."""
    return bool(select.select([connection.sock], [], [], 0)[0])


def _parse(text: str) -> _Server:
    url = text.strip().rstrip("/")
    if "://" not in url:
        url = f"http://{url}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
        raise ClientError(f"{text.strip()!r} is no server address: write it as http://HOST:PORT")
    return _Server(url, parts.scheme == "https", parts.hostname, port, parts.path)


def _nobody(servers: list[_Server], failures: list[_Retryable]) -> str:
    tried = ", ".join(str(f) for f in failures)
    return f"no scheduler can be reached at {tried}: start one (taskd dev), or name it with --server or TASKD_SERVER"


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]


def _decode(content: bytes, server: _Server) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        raise ClientError(f"{server.url} answered with something that is no JSON: is it a taskd scheduler?") from None


def _refusal(server: _Server, status: int, content: bytes, safe: bool) -> ClientError:
    """What an error answer says, in one line."""
    try:
        problem = json.loads(content)
    except ValueError:
        problem = None
    if not isinstance(problem, dict) or "detail" not in problem:
        return ClientError(f"{server.url} answered with status {status}: is it a taskd scheduler?", status)
    errors = [f"{e['field']}: {e['message']}" for e in problem.get("errors", [])]
    message = "; ".join(errors) or str(problem["detail"])
    if status == http.client.SERVICE_UNAVAILABLE:
        if safe or not problem.get("outcome_unknown", False):
            return _Retryable(message, status)
        message += ": it may have been done or not; a dedupe_key for each job makes it safe to repeat"
    if status == http.client.TOO_MANY_REQUESTS:  # nothing was done
        return _Retryable(message, status)
    return ClientError(message, status, problem)
