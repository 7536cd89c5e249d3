"""Rules for the heads of HTTP requests beyond what the parser checks, and the answer to a request that breaks one."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

Headers = list[tuple[bytes, bytes]]

#: Headers that must not be given twice: which of the two would hold? (llhttp refuses a second Content-Length itself.)
ONCE = frozenset({b"host", b"transfer-encoding", b"expect"})
VERSIONS = ("1.1", "1.0")
#: The most headers of one request. Each costs some hundred bytes of memory, however short it is.
MOST_HEADERS = 100


class HeadRefused(Exception):
    """A request that breaks a rule; the text says which, for the client."""


def check_transfer_encoding(value: bytes, version: str) -> None:
    """Raise Refused for a body that is framed in a way that another server may read otherwise."""
    if value.lower() != b"chunked" or version != "1.1":
        raise HeadRefused("the only transfer-encoding is chunked, and that in HTTP/1.1")


def check_target(target: bytes, headers: Headers) -> None:
    """Raise Refused unless the target is a path, or a URL of the host that the Host header names."""
    if target.startswith(b"/"):
        return
    host = next((value for name, value in headers if name == b"host"), None)
    authority = re.match(rb"https?://([^/?#]*)", target, re.IGNORECASE)
    if authority is None or host is None or authority[1].lower() != host.lower():
        raise HeadRefused("the request's target must be a path, or a URL of the host that its Host header names")


def size(target: bytes, headers: Headers) -> int:
    """Bytes of a head, but for its method and version."""
    return len(target) + sum(len(name) + len(value) + 4 for name, value in headers)


def without_upgrade(method: bytes, target: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Write a parsed head out again, without the request to upgrade."""
    lines = [b"%s %s HTTP/%s" % (method, target, version.encode())]
    for name, value in headers:
        if name == b"connection":
            kept = [option for option in value.split(b",") if option.strip().lower() != b"upgrade"]
            lines += [b"connection: " + b",".join(kept)] if kept else []
        elif name != b"upgrade":
            lines.append(b"%s: %s" % (name, value))
    return b"\r\n".join([*lines, b"", b""])


def bad_request(reason: str) -> bytes:
    """A whole response that refuses a request and ends the connection."""
    body = msgspec.json.encode({"title": "Bad Request", "status": 400, "detail": reason})
    return b"\r\n".join(
        (
            b"HTTP/1.1 400 Bad Request",
            b"content-type: application/problem+json",
            b"content-length: %d" % len(body),
            b"connection: close",
            b"",
            body,
        )
    )
