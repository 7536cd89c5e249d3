"""An answer, and how it goes out: two ASGI messages, nothing in between."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.types import Send

Header = tuple[bytes, bytes]

JSON = b"application/json"
_LENGTHS = tuple(str(n).encode() for n in range(1024))


class Answer(msgspec.Struct, frozen=True):
    """A complete response."""

    status: int
    body: bytes
    headers: tuple[Header, ...] = ()
    content_type: bytes = JSON

    async def send(self, send: Send) -> None:
        """Write it to the connection."""
        size = len(self.body)
        length = _LENGTHS[size] if size < len(_LENGTHS) else str(size).encode()
        headers = [(b"content-type", self.content_type), (b"content-length", length), *self.headers]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def document(content: Any, status: int = 200) -> Answer:
    """`content` as JSON."""
    return Answer(status, msgspec.json.encode(content))
