"""Responses to calls of the task `http`: any response with a status becomes a result that can be stored.

A server that has sent a status has done its work. A response that is broken, endless or no text must not make the job fail
and call again, so nothing in this module raises.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from typing import Any

import httpcore

from taskd.app.builtin.result_text import shortened, size, strict_json, text

#: Bytes at the beginning of a response in which its status is searched.
HEAD = 64 * 1024

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-9][0-9][0-9])(?![0-9])")
_CODINGS = ("gzip", "x-gzip", "deflate")


class CapturedResponse:
    """One response as it arrives: its status, its headers and the beginning of its body."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._status: int | None = None
        self._head = bytearray()
        self._data = bytearray()
        self.headers: dict[str, str] = {}
        #: True if the body is not complete.
        self.cut = False

    @property
    def status(self) -> int | None:
        """The status, also of a response whose headers break HTTP; None before it has arrived."""
        return self._status if self._status is not None else _status(bytes(self._head))

    def feed(self, data: bytes) -> None:
        """Keep the first bytes of the response, as they come from the network."""
        self._head += data[: HEAD - len(self._head)]

    async def read(self, response: httpcore.Response) -> None:
        """Read the headers, and as much of the body as is kept."""
        self._status = response.status
        self._head.clear()
        self.headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        async for chunk in response.aiter_stream():
            self._data += chunk
            if len(self._data) > self._most:
                self.cut = True
                break

    def result(self, limit: int) -> dict[str, Any]:
        """Return `status`, `body` and `cut`, which as JSON have at most `limit` bytes.

        The body is decoded JSON if the response has that type and can be stored, and text otherwise.
        """
        data, cut = self._decoded()
        made = {"status": self.status, "body": "", "cut": self.cut or cut}
        room = limit - size(made) + len('""')
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json" and not made["cut"]:
            try:
                value = strict_json(data)
                if size(value) <= room:
                    return {**made, "body": value}
            except (ValueError, RecursionError):
                pass  # it is no JSON, whatever its type says, or cannot be stored
        whole = text(data)
        body = shortened(whole, room)
        return {**made, "body": body, "cut": made["cut"] or body != whole}

    def _decoded(self) -> tuple[bytes, bool]:
        """Return the body without its content coding, and True if a part of it is left out.

        A body that does not have the coding of its header stays as it is.
        """
        data = bytes(self._data[: self._most])
        if not data or self.headers.get("content-encoding", "").strip().lower() not in _CODINGS:
            return data, False
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)  # detects by itself if the data is gzip or zlib
        try:
            plain = inflater.decompress(data, self._most + 1)
        except zlib.error:
            return data, False
        return plain[: self._most], len(plain) > self._most or not inflater.eof or bool(inflater.unused_data)


class CapturingBackend(httpcore.AsyncNetworkBackend):
    """Connects as another backend does, and feeds a CapturedResponse with the bytes that arrive."""

    def __init__(self, real: httpcore.AsyncNetworkBackend, response: CapturedResponse) -> None:
        self._real = real
        self._response = response

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect as the other backend does."""
        stream = await self._real.connect_tcp(host, port, timeout, local_address, socket_options)
        return _CapturingStream(stream, self._response)

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await self._real.sleep(seconds)


class _CapturingStream(httpcore.AsyncNetworkStream):
    def __init__(self, real: httpcore.AsyncNetworkStream, response: CapturedResponse) -> None:
        self._real = real
        self._response = response

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = await self._real.read(max_bytes, timeout)
        self._response.feed(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._real.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._real.aclose()

    async def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return _CapturingStream(await self._real.start_tls(ssl_context, server_hostname, timeout), self._response)

    def get_extra_info(self, info: str) -> Any:
        return self._real.get_extra_info(info)


def _status(head: bytes) -> int | None:
    """Return the status of the final response in these bytes; interim ones (1xx) are skipped."""
    while match := _STATUS.match(head):
        if int(match[1]) >= 200 or int(match[1]) == 101:
            return int(match[1])
        _, ended, head = head.partition(b"\r\n\r\n")
        if not ended:
            return None
    return None
