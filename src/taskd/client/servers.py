"""The addresses of the schedulers, and the order in which a client tries them."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from taskd.client.failures import ClientError, Retryable, reason
from taskd.client.requests import ClientRequest

DEFAULT_SERVER = "http://localhost:8080"
_PORTS = {"http": 80, "https": 443}


class ServerAddress(NamedTuple):
    """The parts of one address."""

    url: str
    secure: bool
    host: str
    port: int
    prefix: str


class ServerList:
    """The addresses; the one that responded last comes first. Thread-safe: the list is replaced, never changed."""

    def __init__(self, text: str) -> None:
        """Parse `text`: URLs, comma-separated. Raises ClientError."""
        if "@" in text:
            raise ClientError(
                f"{shown(text.strip())!r} is not a server address: write it as http://HOST:PORT, without a user or a password "
                "(TASKD_TOKEN has the token)"
            )
        self._order = [_parse(url) for url in text.split(",") if url.strip()]
        if not self._order:
            raise ClientError("no server is given: set --server or TASKD_SERVER, for example http://localhost:8080")
        self.secure = any(server.secure for server in self._order)
        self._reached = False

    def __iter__(self) -> Iterator[ServerAddress]:
        return iter(self._order)

    def responded(self, server: ServerAddress) -> None:
        """Try this server first from now on."""
        self._reached = True
        if self._order[0] is not server:
            self._order = [server, *(other for other in self._order if other is not server)]

    def timed_out(self, server: ServerAddress) -> None:
        """Try this server last from now on, since it left no time for the others."""
        self._order = [*(other for other in self._order if other is not server), server]

    def failure(self, failures: Sequence[Retryable]) -> Retryable:
        """Return the error to raise when no server responded."""
        # The 503 of one server says more than the refused connections of others.
        answered = next((failure for failure in failures if not failure.silent), None)
        if answered is not None:
            return answered
        tried = ", ".join(str(failure) for failure in failures)
        advice = "start one (taskd dev), or name it with --server or TASKD_SERVER"
        return Retryable(f"no scheduler can be reached at {tried}: {advice}", silent=True)

    def worth_waiting(self, failure: Retryable) -> bool:
        """Return True if a later try may help: a server responded before, or one listens now."""
        return self._reached or not failure.silent


def retry_options(seconds: float, request: ClientRequest) -> dict[str, Any]:
    """Return tenacity's options for retries, for at most `seconds` and no longer than the caller waits."""
    # Imported here, so that only a client that has to retry pays for it.
    from tenacity import retry_if_exception_type, stop_after_delay, wait_random_exponential  # noqa: PLC0415

    over, pause = stop_after_delay(seconds), wait_random_exponential(multiplier=0.2, max=2.0)
    return {
        "retry": retry_if_exception_type(Retryable),
        "stop": lambda state: over(state) or request.left <= 0,
        "wait": lambda state: min(pause(state), request.left),
        "reraise": True,
    }


def headers(token: str | None) -> Mapping[str, str]:
    """Return the headers of every request. Raises ClientError for an invalid token, without showing it."""
    common = {"Accept": "application/json", "User-Agent": "taskd"}
    token = (token or "").strip()  # files and secrets often end in a newline
    if not _plain(token):
        raise ClientError("TASKD_TOKEN is not a token: a token is printable ASCII (taskd token create NAME makes one)")
    return common | {"Authorization": f"Bearer {token}"} if token else common


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Return a context for https:// that trusts the authorities in the file, or the system's. Raises ClientError."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ClientError(f"TASKD_CA_FILE: {ca_file} is not a file with certificates ({reason(error)})") from None


def _parse(text: str) -> ServerAddress:
    url = text.strip().rstrip("/")
    if "://" not in url:
        url = f"http://{url}"
    try:
        parts = urlsplit(url)
        port = _PORTS.get(parts.scheme, 0) if parts.port is None else parts.port
        host = (parts.hostname or "").encode("idna").decode("ascii")
    except ValueError:  # also UnicodeError, for a label of the host that is empty or too long
        parts, port, host = urlsplit(""), 0, ""
    invalid = parts.query or parts.fragment or not _plain(host + parts.path) or " " in url
    if parts.scheme not in _PORTS or not host or invalid:
        raise ClientError(f"{shown(text.strip())!r} is not a server address: write it as http://HOST:PORT")
    if not url.isascii():
        url = f"{parts.scheme}://{host}:{port}{parts.path}"
    return ServerAddress(url, parts.scheme == "https", host, port, parts.path)


def shown(text: str) -> str:
    """Return an address for display: without user and password, and without its query and fragment, which may have a token."""
    scheme, colon, rest = text.partition("://") if "://" in text else ("", "", text)
    _, at, location = rest.rpartition("@")
    bare = re.split(r"[?#]", location, maxsplit=1)[0]
    return f"{scheme}{colon}{'***@' if at else ''}{bare}{'?***' if bare != location else ''}"


def _plain(text: str) -> bool:
    """Return True if the text can stand in the head of a request."""
    return text.isascii() and text.isprintable()
