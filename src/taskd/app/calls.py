"""The built-in task `http`: calls a URL that the operator allows.

A name is resolved once, every address is checked, and the connection goes to the address that was checked: a name that
resolves to something else a moment later (DNS rebinding) gains nothing. No redirect is followed and no proxy is asked.

A call that was answered is not repeated because of its answer's body: the status decides alone (`replies.py`).
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

from taskd.app.addresses import CheckedBackend, NotAllowed, networks
from taskd.app.context import Context
from taskd.app.replies import ListeningBackend, Reply
from taskd.app.urls import Place, locate
from taskd.domain.errors import Fail, RetryAt
from taskd.settings import TaskSettings

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]

#: Statuses that may be another one later; every other failure is one for good.
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
#: The longest wait that another server may ask of us, in seconds.
LONGEST_WAIT = 24 * 3600.0
#: What a caller may not set: it would say something else than what is sent.
OURS = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"})
#: A header's name (RFC 9110), in lower case.
_TOKEN = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")


class Calls:
    """Makes the calls that are allowed, one an attempt."""

    def __init__(self, settings: TaskSettings, max_result: int) -> None:
        """`max_result`: bytes that a result may have. Raises ValueError for a setting that cannot be used."""
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
        """Call `url` with `body` (a string as it is, anything else as JSON); the status and the beginning of the answer.

        An answer of 408, 425, 429 or 5xx, or none within `timeout` seconds, fails the attempt; any other but 2xx the job.
        """
        target = self._target(url)
        sent, content = _request(ctx, target, headers, body)
        reply = Reply(self._most)
        trouble = ""
        try:
            async with asyncio.timeout(timeout):
                await self._call(method, target.url, sent, content, reply)
        except NotAllowed as error:
            raise Fail(str(error)) from None
        except TimeoutError:
            trouble = f"{url} did not answer within {timeout:g} s"
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            trouble = f"{url} cannot be called: {error or type(error).__name__}"
        if reply.status is None:
            raise RuntimeError(trouble)
        # The rest of an answer that broke off is lost, and calling again would do its work again.
        reply.cut = reply.cut or bool(trouble)
        _judge(url, reply.status, reply.headers)
        return reply.result(self._max_result)

    def _target(self, url: str) -> Place:
        """The place to call, if that is allowed. Raises Fail, which does not say what is: a URL may be a secret by itself."""
        try:
            place = locate(url)
        except ValueError as error:
            raise Fail(str(error)) from None
        if not any(one.covers(place) for one in self._allowed):
            raise Fail(f"{url!r} is not beneath any URL that this worker may call (tasks.http_allow)")
        return place

    async def _call(
        self, method: str, url: httpcore.URL, headers: Mapping[str, str], content: bytes, reply: Reply
    ) -> None:
        backend = ListeningBackend(self._backend, reply)
        pool = httpcore.AsyncConnectionPool(ssl_context=self._tls, network_backend=backend)
        async with pool, pool.stream(method, url, headers=list(headers.items()), content=content) as response:
            await reply.take(response)


def allowed(text: str) -> tuple[Place, ...]:
    """The URLs of the setting. Raises ValueError."""
    try:
        return tuple(locate(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ValueError(f"section [tasks], key 'http_allow': {error}") from None


def _request(ctx: Context, target: Place, headers: Mapping[str, str], body: Any) -> tuple[dict[str, str], bytes]:
    """The headers and the body to send. Raises Fail."""
    given = {name.lower(): value for name, value in headers.items()}
    if forbidden := sorted(OURS & given.keys()):
        raise Fail(f"the header {forbidden[0]!r} cannot be set")
    for name, value in given.items():
        if not _TOKEN.fullmatch(name) or not (value.isascii() and value.isprintable() and value == value.strip()):
            raise Fail(
                f"the header {name!r} must have a plain name, and a value of printable ASCII without spaces around it"
            )
    content = b"" if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    kind = "text/plain; charset=utf-8" if isinstance(body, str) else "application/json"
    # The same for every attempt, so that a careful server does the work of a repeated attempt once.
    own = {
        "host": target.authority,
        "user-agent": "taskd",
        "accept-encoding": "identity",
        "idempotency-key": f"taskd-job-{ctx.job.id}",
        "taskd-attempt": str(ctx.attempt),
    }
    return {**own, **({"content-type": kind} if content else {}), **given}, content


def _judge(url: str, status: int, headers: Mapping[str, str]) -> None:
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
