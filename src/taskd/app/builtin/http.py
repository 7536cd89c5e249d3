"""The built-in task `http`: calls a URL that the operator allows.

A name is resolved once, all its addresses are checked, and the connection goes to a checked address. So a name that resolves
to another address a moment later (DNS rebinding) has no effect. No redirect is followed and no proxy is used.

A call with a response is not repeated because of the response's body: only the status decides (`responses.py`).
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import httpcore
from msgspec import Meta

from taskd.app.builtin.addresses import CheckedBackend, NotAllowed, networks
from taskd.app.builtin.responses import CapturedResponse, CapturingBackend
from taskd.app.builtin.urls import UrlParts, parse_url
from taskd.app.context import Context
from taskd.domain.errors import Fail, RetryAt
from taskd.settings import TaskSettings

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]

#: Statuses of failures that may pass; every other failure is permanent.
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
#: The longest wait that a server may ask for, in seconds.
LONGEST_WAIT = 24 * 3600.0
#: Headers that a job may not set: they would contradict the request that is sent.
RESERVED = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"})
#: A header's name (RFC 9110), in lower case.
_TOKEN = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")


class HttpTask:
    """Makes allowed calls, one each attempt."""

    def __init__(self, settings: TaskSettings, max_result: int) -> None:
        """`max_result`: the most bytes of a result. Raises ValueError for an invalid setting."""
        self._allowed = allowed(settings.http_allow)
        self._most = settings.http_max_response
        self._max_result = max_result
        self._backend = CheckedBackend(networks(settings.http_networks))
        self._tls = ssl.create_default_context()

    async def http(
        self,
        ctx: Context,
        url: str,
        method: Method = "POST",
        headers: dict[str, str] = {},  # noqa: B006  only read
        body: Any = None,
        timeout: Annotated[float, Meta(gt=0, le=LONGEST_WAIT)] = 30.0,
    ) -> dict[str, Any]:
        """Call `url` with `body` (a string as it is, anything else as JSON).

        Returns the status and the beginning of the response's body. A status of 408, 425, 429 or 5xx, or none within `timeout`
        seconds, fails the attempt; any other status but 2xx fails the job.
        """
        target = self._target(url)
        sent, content = _request(ctx, target, headers, body)
        response = CapturedResponse(self._most)
        failure = ""
        try:
            async with asyncio.timeout(timeout):
                await self._call(method, target.url, sent, content, response)
        except NotAllowed as error:
            raise Fail(str(error)) from None
        except TimeoutError:
            failure = f"{url} did not answer within {timeout:g} s"
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            failure = f"{url} cannot be called: {error or type(error).__name__}"
        if response.status is None:
            raise RuntimeError(failure)
        # The rest of a response that broke off is lost, and another call would do its work again.
        response.cut = response.cut or bool(failure)
        _check_status(url, response.status, response.headers)
        return response.result(self._max_result)

    def _target(self, url: str) -> UrlParts:
        """Return the parts of the URL, if that is allowed.

        Raises Fail, whose message does not list the allowed URLs: one may be a secret by itself.
        """
        try:
            target = parse_url(url)
        except ValueError as error:
            raise Fail(str(error)) from None
        if not any(prefix.covers(target) for prefix in self._allowed):
            raise Fail(f"{url!r} is not beneath any URL that this worker may call (tasks.http_allow)")
        return target

    async def _call(
        self, method: str, url: httpcore.URL, headers: Mapping[str, str], content: bytes, response: CapturedResponse
    ) -> None:
        backend = CapturingBackend(self._backend, response)
        pool = httpcore.AsyncConnectionPool(ssl_context=self._tls, network_backend=backend)
        async with pool, pool.stream(method, url, headers=list(headers.items()), content=content) as stream:
            await response.read(stream)


def allowed(text: str) -> tuple[UrlParts, ...]:
    """Return the URLs of the setting. Raises ValueError for an invalid one."""
    try:
        return tuple(parse_url(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ValueError(f"section [tasks], key 'http_allow': {error}") from None


def _request(ctx: Context, target: UrlParts, headers: Mapping[str, str], body: Any) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body to send. Raises Fail for a header that cannot be sent."""
    given = {name.lower(): value for name, value in headers.items()}
    if forbidden := sorted(RESERVED & given.keys()):
        raise Fail(f"the header {forbidden[0]!r} cannot be set")
    for name, value in given.items():
        if not _TOKEN.fullmatch(name) or not (value.isascii() and value.isprintable() and value == value.strip()):
            raise Fail(
                f"the header {name!r} must have a plain name, and a value of printable ASCII without spaces around it"
            )
    content = b"" if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    kind = "text/plain; charset=utf-8" if isinstance(body, str) else "application/json"
    # The same for every attempt, so that a careful server does the work of a repeated attempt once.
    added = {
        "host": target.authority,
        "user-agent": "taskd",
        "accept-encoding": "identity",
        "idempotency-key": f"taskd-job-{ctx.job.id}",
        "taskd-attempt": str(ctx.attempt),
    }
    return {**added, **({"content-type": kind} if content else {}), **given}, content


def _check_status(url: str, status: int, headers: Mapping[str, str]) -> None:
    """Raise RuntimeError, RetryAt or Fail unless the status is 2xx."""
    if 200 <= status < 300:
        return
    if 300 <= status < 400 and "location" in headers:
        raise Fail(f"{url} answered with status {status} and leads to {headers['location']!r}: not followed")
    if status not in PASSING:
        raise Fail(f"{url} answered with status {status}")
    wait = headers.get("retry-after", "")
    if wait.isascii() and wait.isdecimal():
        when = datetime.now(UTC) + timedelta(seconds=min(float(wait), LONGEST_WAIT))
        raise RetryAt(when, f"{url} answered with status {status}, and to come back in {wait} s")
    raise RuntimeError(f"{url} answered with status {status}")
