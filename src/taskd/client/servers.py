"""The addresses that a client asks, in turn."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from taskd.client.failures import ClientError, Retryable, reason
from taskd.client.request import Request

DEFAULT_SERVER = "http://localhost:8080"
_PORTS = {"http": 80, "https": 443}


class Server(NamedTuple):
    """One address, taken apart."""

    url: str
    secure: bool
    host: str
    port: int
    prefix: str


class Servers:
    """The addresses, the one that answered last first. Threads may share it: its list is replaced, never changed."""

    def __init__(self, text: str) -> None:
        """`text`: URLs, comma-separated. Raises ClientError."""
        if "@" in text:
            raise ClientError(
                f"{shown(text.strip())!r} is no server address: write it as http://HOST:PORT, without a user or a password "
                "(TASKD_TOKEN has the token)"
            )
        self._order = [_parse(url) for url in text.split(",") if url.strip()]
        if not self._order:
            raise ClientError("there is no server to ask: give --server or TASKD_SERVER, as in http://localhost:8080")
        self.secure = any(server.secure for server in self._order)
        self._met = False

    def __iter__(self) -> Iterator[Server]:
        return iter(self._order)

    def answered(self, server: Server) -> None:
        """It is asked first from now on."""
        self._met = True
        if self._order[0] is not server:
            self._order = [server, *(other for other in self._order if other is not server)]

    def unheard(self, server: Server) -> None:
        """There was no time for the others: it is asked last from now on."""
        self._order = [*(other for other in self._order if other is not server), server]

    def failure(self, failures: Sequence[Retryable]) -> Retryable:
        """What to tell when none of them answered."""
        # A server that answered "not now" says more than one that is not there.
        told = next((f for f in failures if not f.silent), None)
        if told is not None:
            return told
        tried = ", ".join(str(f) for f in failures)
        mend = "start one (taskd dev), or name it with --server or TASKD_SERVER"
        return Retryable(f"no scheduler can be reached at {tried}: {mend}", silent=True)

    def worth_waiting(self, failure: Retryable) -> bool:
        """Whether asking again later may help: not where nobody ever answered."""
        return self._met or not failure.silent


def patiently(seconds: float, request: Request) -> dict[str, Any]:
    """How tenacity asks again, for at most so many seconds, and no longer than whoever asks waits."""
    # Imported here: only a client in trouble pays for it.
    from tenacity import retry_if_exception_type, stop_after_delay, wait_random_exponential  # noqa: PLC0415

    over, pause = stop_after_delay(seconds), wait_random_exponential(multiplier=0.2, max=2.0)
    return {
        "retry": retry_if_exception_type(Retryable),
        "stop": lambda state: over(state) or request.left <= 0,
        "wait": lambda state: min(pause(state), request.left),
        "reraise": True,
    }


def headers(token: str | None) -> Mapping[str, str]:
    """What goes with every request. Raises ClientError for a token that cannot be one; it is not shown."""
    known = {"Accept": "application/json", "User-Agent": "taskd"}
    token = (token or "").strip()  # files and secrets often end in a newline
    if not _plain(token):
        raise ClientError("TASKD_TOKEN is no token: one is printable ASCII (taskd token create NAME makes one)")
    return known | {"Authorization": f"Bearer {token}"} if token else known


def trusting(ca_file: str | None) -> ssl.SSLContext:
    """For https://, by the authorities in the file, or the system's. Raises ClientError."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ClientError(f"TASKD_CA_FILE: {ca_file} is no file with certificates ({reason(error)})") from None


def _parse(text: str) -> Server:
    url = text.strip().rstrip("/")
    if "://" not in url:
        url = f"http://{url}"
    try:
        parts = urlsplit(url)
        port = _PORTS.get(parts.scheme, 0) if parts.port is None else parts.port
        host = (parts.hostname or "").encode("idna").decode("ascii")
    except ValueError:  # UnicodeError is one: a label of the host that is empty or too long
        parts, port, host = urlsplit(""), 0, ""
    strange = parts.query or parts.fragment or not _plain(host + parts.path) or " " in url
    if parts.scheme not in _PORTS or not host or strange:
        raise ClientError(f"{shown(text.strip())!r} is no server address: write it as http://HOST:PORT")
    if not url.isascii():
        url = f"{parts.scheme}://{host}:{port}{parts.path}"
    return Server(url, parts.scheme == "https", host, port, parts.path)


def shown(text: str) -> str:
    """A server address for people: without a user and password, and without what a query or fragment has, such as a token."""
    scheme, colon, rest = text.partition("://") if "://" in text else ("", "", text)
    _, at, place = rest.rpartition("@")
    bare = re.split(r"[?#]", place, maxsplit=1)[0]
    return f"{scheme}{colon}{'***@' if at else ''}{bare}{'?***' if bare != place else ''}"


def _plain(text: str) -> bool:
    """Whether it can stand in the head of a request."""
    return text.isascii() and text.isprintable()
