"""Responses: two ASGI messages each, without a layer in between."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.types import Send

Header = tuple[bytes, bytes]

JSON = b"application/json"
_LENGTHS = tuple(str(n).encode() for n in range(1024))


class Response(msgspec.Struct, frozen=True):
    """A complete response."""

    status: int
    body: bytes
    headers: tuple[Header, ...] = ()
    content_type: bytes = JSON

    async def send(self, send: Send) -> None:
        """Write the response to the connection."""
        size = len(self.body)
        length = _LENGTHS[size] if size < len(_LENGTHS) else str(size).encode()
        headers = [(b"content-type", self.content_type), (b"content-length", length), *self.headers]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def document(content: Any, status: int = 200, headers: tuple[Header, ...] = ()) -> Response:
    """Return `content` as JSON."""
    return Response(status, msgspec.json.encode(content), headers)


def location(path: str) -> Header:
    """Return the header that names the path of what a request made."""
    return (b"location", path.encode())


def next_page(path: str, query: Mapping[str, str], cursor: str) -> Header:
    """Return the Link header to the next page: the same query, from `cursor` on."""
    return (b"link", f'<{path}?{urlencode({**query, "cursor": cursor})}>; rel="next"'.encode())
