"""POST /jobs one at a time on many keep-alive connections, by a client that costs little itself."""

from __future__ import annotations

import asyncio
import time
from typing import cast
from urllib.parse import urlsplit

import uvloop

BODY = b'{"task":"noop","payload":{}}'
HEAD = b"POST /jobs HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
REQUEST = HEAD % len(BODY) + BODY


class Poster(asyncio.Protocol):
    """One connection: a request as soon as the last one was answered."""

    def __init__(self, seconds: list[float]) -> None:
        self._seconds = seconds
        self._buffer = b""
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from asyncio's
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, gap, body = self._buffer.partition(b"\r\n\r\n")
        if not gap or len(body) < int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]):
            return
        assert head.startswith(b"HTTP/1.1 201"), head
        self._buffer = b""
        self._seconds.append(time.perf_counter() - self._sent)
        self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(REQUEST)


async def _load(url: str, connections: int, duration: float) -> list[float]:
    host, _, port = urlsplit(url).netloc.rpartition(":")
    seconds: list[float] = []
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: Poster(seconds), host, int(port)) for _ in range(connections)]
    await asyncio.sleep(0.5)
    seconds.clear()
    await asyncio.sleep(duration)
    found = sorted(seconds)
    for transport, _ in made:
        transport.abort()
    return found


def submit_one_by_one(url: str, connections: int, duration: float) -> tuple[float, float, float]:
    """(jobs/s, p50, p99) over `duration` seconds; the percentiles in milliseconds."""
    found = uvloop.run(_load(url, connections, duration))
    return len(found) / duration, found[len(found) // 2] * 1e3, found[len(found) * 99 // 100] * 1e3
