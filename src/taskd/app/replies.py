"""Answers to calls of the task `http`: whatever arrives after a status, it becomes a result that can be stored.

A server that has answered has done its work. An answer that is broken, endless or no text must not make the job fail and
call again, so nothing in here raises.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Iterable
from typing import Any, NoReturn

import httpcore

#: Bytes of an answer's beginning in which its status is looked for.
HEAD = 64 * 1024
#: How deep the JSON of a result may be nested: 200 levels, of which the result's own dict is one.
MAX_DEPTH = 199

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-9][0-9][0-9])(?![0-9])")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_CODINGS = ("gzip", "x-gzip", "deflate")


class Reply:
    """One answer as it arrives: its status, its headers and the beginning of its body."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._status: int | None = None
        self._head = bytearray()
        self._data = bytearray()
        self.headers: dict[str, str] = {}
        #: True if the body is not whole.
        self.cut = False

    @property
    def status(self) -> int | None:
        """The status, also of an answer whose headers break HTTP; None while there is none."""
        return self._status if self._status is not None else _status(bytes(self._head))

    def hear(self, data: bytes) -> None:
        """Keep the bytes of the answer's beginning, as they come from the network."""
        self._head += data[: HEAD - len(self._head)]

    async def take(self, response: httpcore.Response) -> None:
        """Read headers and body, of which no more is read than is kept."""
        self._status = response.status
        self._head.clear()
        self.headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        async for chunk in response.aiter_stream():
            self._data += chunk
            if len(self._data) > self._most:
                self.cut = True
                break

    def result(self, limit: int) -> dict[str, Any]:
        """`status`, `body` and `cut`, as JSON of at most `limit` bytes.

        The body is the decoded JSON of an answer that is of this type and can be stored, and text otherwise.
        """
        data, cut = self._plain()
        made = {"status": self.status, "body": "", "cut": self.cut or cut}
        room = limit - size(made) + len('""')
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json" and not made["cut"]:
            try:
                value = strict_json(data)
                if size(value) <= room:
                    return {**made, "body": value}
            except (ValueError, RecursionError):
                pass  # it says so and is not, or cannot be stored
        whole = text(data)
        body = shortened(whole, room)
        return {**made, "body": body, "cut": made["cut"] or body != whole}

    def _plain(self) -> tuple[bytes, bool]:
        """The body without its coding, and if any of it is left out. A body that is not what it says stays as it is."""
        data = bytes(self._data[: self._most])
        if not data or self.headers.get("content-encoding", "").strip().lower() not in _CODINGS:
            return data, False
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)  # finds out by itself if it is gzip or zlib
        try:
            plain = inflater.decompress(data, self._most + 1)
        except zlib.error:
            return data, False
        return plain[: self._most], len(plain) > self._most or not inflater.eof or bool(inflater.unused_data)


class ListeningBackend(httpcore.AsyncNetworkBackend):
    """Connects as another backend does, and lets a Reply hear what arrives."""

    def __init__(self, real: httpcore.AsyncNetworkBackend, reply: Reply) -> None:
        self._real = real
        self._reply = reply

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect as the other one does."""
        stream = await self._real.connect_tcp(host, port, timeout, local_address, socket_options)
        return _ListeningStream(stream, self._reply)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._real.sleep(seconds)


class _ListeningStream(httpcore.AsyncNetworkStream):
    def __init__(self, real: httpcore.AsyncNetworkStream, reply: Reply) -> None:
        self._real = real
        self._reply = reply

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = await self._real.read(max_bytes, timeout)
        self._reply.hear(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._real.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._real.aclose()

    async def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return _ListeningStream(await self._real.start_tls(ssl_context, server_hostname, timeout), self._reply)

    def get_extra_info(self, info: str) -> Any:
        return self._real.get_extra_info(info)


def text(data: bytes) -> str:
    """As text that PostgreSQL takes: bytes that are not UTF-8, and NUL, become U+FFFD."""
    return data.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")


def size(value: Any) -> int:
    """Bytes of the value as JSON of a result."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def shortened(whole: str, room: int) -> str:
    """The longest beginning of a text whose JSON has at most `room` bytes."""
    encoded = json.dumps(whole, ensure_ascii=False).encode()
    if len(encoded) <= room:
        return whole
    start = encoded[: max(room - 1, 1)].decode("utf-8", "ignore")
    for left_out in range(len(r"\u0000")):
        # The cut may be within an escape.
        try:
            return str(json.loads(f'{start[: len(start) - left_out]}"'))
        except ValueError:
            continue
    return ""


def strict_json(data: bytes) -> Any:
    """The decoded JSON. Raises ValueError or RecursionError for what is none or cannot be stored as such."""
    value = json.loads(data, parse_constant=_refuse)
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        containers = [item for item in level if isinstance(item, dict | list)]
        if any(isinstance(item, str | float) and not _storable(item) for item in level):
            raise ValueError("a text or a number in it cannot be stored")
        if not containers:
            return value
        level = []
        for item in containers:
            level += [*item.keys(), *item.values()] if isinstance(item, dict) else item
    raise ValueError("it is nested too deep")


def _storable(item: str | float) -> bool:
    return not _UNSTORABLE.search(item) if isinstance(item, str) else math.isfinite(item)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _status(head: bytes) -> int | None:
    """The status of the final answer in the bytes that came; those of interim ones (1xx) are skipped."""
    while found := _STATUS.match(head):
        if int(found[1]) >= 200 or int(found[1]) == 101:
            return int(found[1])
        _, ended, head = head.partition(b"\r\n\r\n")
        if not ended:
            return None
    return None
