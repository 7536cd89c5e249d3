"""POST /jobs one at a time on many keep-alive connections, by a client that costs little itself."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

import uvloop

BODY = b'{"task":"noop","payload":{}}'
HEAD = b"POST %s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
#: The header in the form of taskd and uvicorn.
LENGTH = b"content-length: "
#: Seconds that a load runs before it is measured, and between two checks for due requests.
WARM, TICK = 0.5, 0.001

Load = tuple[float, float, float]


class Poster(asyncio.Protocol):
    """One connection with one request at a time. It calls `answered` after each response."""

    def __init__(self, answered: Callable[[Poster, float], None], jobs: int) -> None:
        self._answered = answered
        self._request = _request(jobs)
        self._buffer = b""
        self._since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from asyncio's

    def data_received(self, data: bytes) -> None:
        self._buffer = data = self._buffer + data if self._buffer else data
        end = data.find(b"\r\n\r\n")
        at = data.find(LENGTH, 0, end)
        if end < 0 or len(data) < end + 4 + int(data[at + len(LENGTH) : data.index(b"\r", at)]):
            return
        assert data.startswith(b"HTTP/1.1 201"), data
        self._buffer = b""
        self._answered(self, time.perf_counter() - self._since)

    def send(self, since: float) -> None:
        """Send the request. The response time counts from `since`."""
        self._since = since
        self._transport.write(self._request)

    def close(self) -> None:
        """Close the connection."""
        self._transport.abort()


def _request(jobs: int) -> bytes:
    """Return a request that submits that many jobs: a plain submit for one, a batch for more."""
    body = BODY if jobs == 1 else b'{"jobs":[%s]}' % b",".join([BODY] * jobs)
    return HEAD % (b"/jobs" if jobs == 1 else b"/jobs/batch", len(body)) + body


async def _connected(
    url: str, connections: int, answered: Callable[[Poster, float], None], jobs: int = 1
) -> list[Poster]:
    host, _, port = urlsplit(url).netloc.rpartition(":")
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: Poster(answered, jobs), host, int(port)) for _ in range(connections)]
    return [poster for _, poster in made]


async def answered(url: str, connections: int, duration: float) -> Load:
    """Return requests/s, p50 and p99 in milliseconds, of connections that each send again at once after a response."""
    seconds: list[float] = []

    def again(poster: Poster, took: float) -> None:
        seconds.append(took)
        poster.send(time.perf_counter())

    posters = await _connected(url, connections, again)
    for poster in posters:
        poster.send(time.perf_counter())
    await asyncio.sleep(WARM)
    seconds.clear()
    await asyncio.sleep(duration)
    times = list(seconds)
    for poster in posters:
        poster.close()
    return _load(times, duration)


async def arriving(url: str, connections: int, rate: float, duration: float, jobs: int) -> Load:
    """Return the same for requests of `jobs` jobs that arrive `rate` a second, independent of the responses.

    The time of each request counts from when it was due.
    """
    seconds: list[float] = []
    idle: deque[Poster] = deque()

    def rest(poster: Poster, took: float) -> None:
        seconds.append(took)
        idle.append(poster)

    posters = await _connected(url, connections, rest, jobs)
    idle.extend(posters)
    began, sent, warm = time.perf_counter(), 0, True
    while (elapsed := time.perf_counter() - began) < WARM + duration:
        if warm and elapsed > WARM:
            warm = False
            seconds.clear()
        while idle and sent < elapsed * rate:
            idle.popleft().send(began + sent / rate)
            sent += 1
        await asyncio.sleep(TICK)
    times = list(seconds)
    for poster in posters:
        poster.close()
    return _load(times, duration)


def _load(seconds: list[float], duration: float) -> Load:
    times = sorted(seconds)
    return len(times) / duration, times[len(times) // 2] * 1e3, times[len(times) * 99 // 100] * 1e3


def submit_one_by_one(url: str, connections: int, duration: float) -> Load:
    """Return jobs/s, p50 and p99 of as many submits as succeed."""
    return uvloop.run(answered(url, connections, duration))


def submit_steadily(url: str, connections: int, rate: float, duration: float, jobs: int = 1) -> Load:
    """Return requests/s, p50 and p99 of `rate` jobs a second, `jobs` in each request."""
    return uvloop.run(arriving(url, connections, rate / jobs, duration, jobs))
