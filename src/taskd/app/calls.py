"""The built-in task `http`: calls a URL that the operator allows.

A name is resolved once, every address is checked, and the connection goes to the address that was checked: a name that
resolves to something else a moment later (DNS rebinding) gains nothing. No redirect is followed and no proxy is asked.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

import httpcore

from taskd.app.addresses import CheckedBackend, NotAllowed, networks
from taskd.app.context import Context
from taskd.domain.errors import Fail, RetryAt
from taskd.settings import Tasks

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]

PORTS = {"http": 80, "https": 443}
#: Statuses that may be another one later; every other failure is one for good.
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
#: The longest wait that another server may ask of us, in seconds.
LONGEST_WAIT = 24 * 3600.0
#: What a caller may not set: it would say something else than what is sent.
OURS = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"})


class Place(NamedTuple):
    """Where a URL leads."""

    scheme: str
    host: str
    port: int
    path: str
    query: str = ""

    def covers(self, other: Place) -> bool:
        """Whether the other one is below this one: the same server, and this path or one beneath it."""
        beneath = self.path.rstrip("/") + "/"
        return self[:3] == other[:3] and (other.path == self.path or other.path.startswith(beneath))

    @property
    def url(self) -> httpcore.URL:
        """What is called: made of the parts that were checked, so that nobody takes them apart in another way."""
        target = f"{self.path}?{self.query}" if self.query else self.path
        return httpcore.URL(scheme=self.scheme, host=self.host, port=self.port, target=target)


class Calls:
    """Makes the calls that are allowed, one an attempt."""

    def __init__(self, settings: Tasks) -> None:
        """Raises ValueError for a setting that cannot be used."""
        self._allowed = allowed(settings.http_allow)
        self._most = settings.http_max_response
        self._backend = CheckedBackend(networks(settings.http_networks))
        self._tls = ssl.create_default_context()

    async def http(
        self,
        ctx: Context,
        url: str,
        method: Method = "POST",
        headers: dict[str, str] = {},  # noqa: B006  only read
        body: Any = None,
        timeout: float = 30.0,
    ) -> dict[str, Any]:
        """Call `url` with `body` (a string as it is, anything else as JSON); the status and the beginning of the answer.

        An answer of 408, 425, 429 or 5xx, or none within `timeout` seconds, fails the attempt; any other but 2xx the job.
        """
        target = self._target(url)
        sent, content = _request(ctx, headers, body)
        try:
            async with asyncio.timeout(timeout):
                status, answered, data, cut = await self._call(method, target, sent, content)
        except TimeoutError:
            raise RuntimeError(f"{url} did not answer within {timeout:g} s") from None
        except NotAllowed as error:
            raise Fail(str(error)) from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            raise RuntimeError(f"{url} cannot be called: {error or type(error).__name__}") from None
        _judge(url, status, answered)
        return {"status": status, "body": _decoded(answered, data), "cut": cut}

    def _target(self, url: str) -> httpcore.URL:
        """Where to call, if that is allowed. Raises Fail, which does not say what is: an address may be a secret by itself."""
        try:
            place = locate(url)
        except ValueError as error:
            raise Fail(str(error)) from None
        if not any(one.covers(place) for one in self._allowed):
            raise Fail(f"{url!r} is not beneath any URL that this worker may call (tasks.http_allow)")
        return place.url

    async def _call(
        self, method: str, url: httpcore.URL, headers: Mapping[str, str], content: bytes
    ) -> tuple[int, dict[str, str], bytes, bool]:
        pool = httpcore.AsyncConnectionPool(ssl_context=self._tls, network_backend=self._backend)
        async with pool, pool.stream(method, url, headers=list(headers.items()), content=content) as response:
            data, cut = bytearray(), False
            async for chunk in response.aiter_stream():
                data += chunk
                if len(data) > self._most:
                    cut = True
                    break
            answered = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            return response.status, answered, bytes(data[: self._most]), cut


def locate(url: str) -> Place:
    """Take a URL apart. Raises ValueError for one that could lead elsewhere than it seems to."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"{url!r} is no URL") from None
    plain = url.isascii() and url.isprintable() and " " not in url and "\\" not in url and "@" not in parts.netloc
    if parts.scheme not in PORTS or not parts.hostname or not plain:
        raise ValueError(f"{url!r} must be a plain URL, as in https://api.example.com/orders")
    if climbs(parts.path):
        raise ValueError(f"{url!r} must not have . or .. in its path")
    return Place(parts.scheme, parts.hostname.rstrip("."), port or PORTS[parts.scheme], parts.path or "/", parts.query)


def climbs(path: str) -> bool:
    """Whether some server might read a . or .. in it: those differ in what they decode, how often, and what they cut off."""
    while (decoded := unquote(path)) != path:
        path = decoded
    return any(segment.partition(";")[0] in (".", "..") for segment in re.split(r"[/\\]", path))


def allowed(text: str) -> tuple[Place, ...]:
    """The URLs of the setting. Raises ValueError."""
    try:
        return tuple(locate(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ValueError(f"section [tasks], key 'http_allow': {error}") from None


def _request(ctx: Context, headers: Mapping[str, str], body: Any) -> tuple[dict[str, str], bytes]:
    """The headers and the body to send. Raises Fail."""
    given = {name.lower(): value for name, value in headers.items()}
    if forbidden := sorted(OURS & given.keys()):
        raise Fail(f"the header {forbidden[0]!r} cannot be set")
    for name, value in given.items():
        if not (name.isascii() and name.isprintable() and value.isascii() and value.isprintable()):
            raise Fail(f"the header {name!r} must be printable ASCII")
    content = b"" if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    kind = "text/plain; charset=utf-8" if isinstance(body, str) else "application/json"
    # The same for every attempt, so that a careful server does the work of a repeated attempt once.
    own = {"user-agent": "taskd", "idempotency-key": f"taskd-job-{ctx.job.id}", "taskd-attempt": str(ctx.attempt)}
    return {**own, **({"content-type": kind} if content else {}), **given}, content


def _judge(url: str, status: int, headers: Mapping[str, str]) -> None:
    """Raise RuntimeError, RetryAt or Fail unless the status is 2xx."""
    if 200 <= status < 300:
        return
    if 300 <= status < 400:
        raise Fail(
            f"{url} answered with status {status} and leads to {headers.get('location', 'nowhere')!r}: not followed"
        )
    if status not in PASSING:
        raise Fail(f"{url} answered with status {status}")
    wait = headers.get("retry-after", "")
    if wait.isascii() and wait.isdecimal():
        when = datetime.now(UTC) + timedelta(seconds=min(float(wait), LONGEST_WAIT))
        raise RetryAt(when, f"{url} answered with status {status}, and to come back in {wait} s")
    raise RuntimeError(f"{url} answered with status {status}")


def _decoded(headers: Mapping[str, str], data: bytes) -> Any:
    """JSON as such, anything else as text."""
    if headers.get("content-type", "").partition(";")[0].strip() == "application/json":
        try:
            return json.loads(data)
        except ValueError:
            pass  # it says so and is not, or it was cut
    return data.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
