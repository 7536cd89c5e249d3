"""Tests of requests that violate HTTP: none holds memory, and no body is run as a request."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from taskd.runtime import embedded, heads
from taskd.runtime.serve import Address, serving

HOST = b"host: taskd\r\n"
CHUNKED = b"POST /read HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n"
UPGRADES = (
    b"upgrade: websocket\r\nconnection: upgrade\r\n",
    b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
    b"Upgrade: TLS/1.0\r\nConnection: keep-alive, UPGRADE\r\n",
)
#: More bytes than any limit allows, and few enough to be sent quickly.
ENDLESS = 100 * 1024 * 1024


class Echo:
    """An application that responds with the method, the path and the body, and records the first two."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", scope["path"] == "/read"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        await self.gate.wait()
        line = f"{scope['method']} {scope['path']}"
        self.ran.append(line)
        response = line.encode() + b" " + body
        head = [(b"content-length", b"%d" % len(response))]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": response})


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def address(echo: Echo) -> AsyncIterator[Address]:
    async with serving(echo, "127.0.0.1:0", "--http-addr", grace=1.0) as address:
        yield address


async def exchange(address: Address, *parts: bytes) -> bytes:
    """Send parts one after another; return the response up to the end of the connection."""
    reader, writer = await asyncio.open_connection(*address[:2])
    response = b""
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionError):  # the server closed the connection before all parts were sent
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.02)  # makes a segment of its own likely
            response = await reader.read()
    writer.close()
    return response


LAST = b"GET /last HTTP/1.1\r\n" + HOST + b"connection: close\r\n\r\n"


@pytest.mark.parametrize("upgrade", UPGRADES, ids=["websocket", "h2c", "tls"])
@pytest.mark.parametrize("apart", [False, True], ids=["one segment", "two segments"])
@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_a_request_to_upgrade_is_handled_as_if_it_was_none(
    address: Address, echo: Echo, upgrade: bytes, apart: bool, framing: str
) -> None:
    body = b"POST /smuggled HTTP/1.1\r\ncontent-length: 0\r\n\r\n"
    head = b"POST /read HTTP/1.1\r\n" + HOST + upgrade
    if framing == "length":
        head, sent = head + b"content-length: %d\r\n\r\n" % len(body), body
    else:
        head, sent = head + b"transfer-encoding: chunked\r\n\r\n", b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    following = b"GET /between HTTP/1.1\r\n" + HOST + upgrade + b"\r\n" + LAST
    parts = [head, sent + following] if apart else [head + sent + following]
    response = await exchange(address, *parts)
    assert echo.ran == ["POST /read", "GET /between", "GET /last"]
    assert b"POST /read " + body in response
    assert b"101" not in response.split(b"\r\n")[0]


async def test_a_head_that_asks_for_an_upgrade_may_come_byte_by_byte(address: Address, echo: Echo) -> None:
    request = b"POST /read HTTP/1.1\r\n" + HOST + UPGRADES[1] + b"content-length: 3\r\n\r\nabc" + LAST
    reader, writer = await asyncio.open_connection(*address[:2])
    for byte in request:
        writer.write(bytes([byte]))
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        assert b"POST /read abc" in await reader.read()
    writer.close()
    assert echo.ran == ["POST /read", "GET /last"]


BODY = b"0\r\n\r\nPOST /smuggled HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"CONNECT /read HTTP/1.1\r\n" + HOST,
        b"CONNECT /read HTTP/1.1\r\n" + HOST + UPGRADES[0],
        b"POST /read HTTP/1.1\r\n" + HOST + b"content-length: 5\r\ntransfer-encoding: chunked\r\n",
        b"POST /read HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        b"POST /read HTTP/1.1\r\n" + HOST + UPGRADES[1] + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        b"POST /read HTTP/1.1\r\n" + HOST + b"content-length: 5\r\ncontent-length: 5\r\n",
        b"POST /read HTTP/1.1\r\n" + HOST + b"content-length: 5, 5\r\n",
        b"POST /read HTTP/1.1\r\n" + HOST + b"content-length: +5\r\n",
        b"POST /read HTTP/1.1\r\n" + HOST + b"content-length: 0x5\r\n",
        b"POST /read HTTP/1.1\r\n" + HOST + b"content-length : 5\r\n",
        b"POST /read HTTP/1.1\r\n" + HOST + b"x: a\r\n content-length: 5\r\n",
        b"POST /read HTTP/1.1\r\n" + HOST + b"transfer-encoding: identity, chunked\r\n",
        b"POST /read HTTP/1.1\r\n" + HOST + b"transfer-encoding: gzip, chunked\r\n",
        b"POST /read HTTP/1.1\r\n" + HOST + b"transfer-encoding: xchunked\r\n",
        b"POST /read HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        b"POST /read HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        b"POST /read HTTP/1.1\r\n" + HOST + b"transfer-encoding: identity\r\n",
        b"POST /read HTTP/1.0\r\n" + HOST + b"transfer-encoding: chunked\r\n",
        b"POST /read HTTP/2.0\r\n" + HOST + b"content-length: 5\r\n",
        b"POST /read HTTP/1.1\r\n" + HOST + HOST + b"content-length: 5\r\n",
        b"POST http://other/read HTTP/1.1\r\n" + HOST + b"content-length: 5\r\n",
        b"POST http://taskd@other/read HTTP/1.1\r\n" + HOST + b"content-length: 5\r\n",
        b"POST read HTTP/1.1\r\n" + HOST + b"content-length: 5\r\n",
        b"PRI * HTTP/2.0\r\n",
    ],
)
async def test_framing_that_servers_read_in_different_ways_is_refused(
    address: Address, echo: Echo, head: bytes
) -> None:
    response = await exchange(address, head + b"\r\n" + BODY + LAST)
    assert response.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nconnection: close\r\n" in response
    assert response.count(b"\r\ncontent-length: ") == 1
    assert echo.ran == []


async def test_an_absolute_target_of_the_same_host_is_a_path(address: Address, echo: Echo) -> None:
    await exchange(address, LAST.replace(b"/last", b"http://TASKD/last"))
    assert echo.ran == ["GET /last"]


async def test_a_client_that_expects_100_continue_gets_it(address: Address) -> None:
    head = b"POST /read HTTP/1.1\r\n" + HOST + UPGRADES[1] + b"expect: 100-continue\r\ncontent-length: 3\r\n\r\n"
    response = await exchange(address, head, b"abc" + LAST)
    assert response.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"GET /", b"x" * 1000),
        (b"GET / HTTP/1.1\r\n", b"a:b\r\n" * 200),
        (b"GET / HTTP/1.1\r\nx: ", b"x" * 1000),
        (CHUNKED + b"1\r\n{\r\n0\r\n", b"a:b\r\n" * 200),
        (CHUNKED + b"1\r\n{\r\n0\r\nx: ", b"x" * 1000),
        (CHUNKED + b"1;", b"x" * 1000),
        (CHUNKED + b"1;", b"a=b;" * 250),
        (CHUNKED, b"0" * 1000),
        (CHUNKED, b"1\r\nx\r\n" * 200),
        (CHUNKED, b"1;extension=value\r\nx\r\n" * 50),
        (LAST.replace(b"close", b"keep-alive"), b"\r\n" * 500),
        (CHUNKED.replace(b"POST /read", b"GET /alive") + b"0\r\n", b"a:b\r\n" * 200),
        (b"GET / HTTP/1.1\r\n" + HOST + UPGRADES[0], b"a:b\r\n" * 200),
    ],
    ids=[
        "request line", "headers", "one header", "trailers", "one trailer", "one extension", "extensions", "chunk size",
        "crumbs",        "crumbs with extensions", "empty lines", "trailers of an answered request", "headers of an upgrade",
    ],
)  # fmt: skip
async def test_framing_has_a_limit(address: Address, begin: bytes, more: bytes) -> None:
    assert (
        await _sent_until_cut_off(address, begin, more * 10) < 20 * 1024 * 1024
    )  # most bytes are in the sockets' buffers


async def test_an_unread_body_has_a_limit(address: Address) -> None:
    head = b" / HTTP/1.1\r\n" + HOST + b"content-length: 1000000000000\r\n\r\n"
    assert await _sent_until_cut_off(address, b"GET" + head, b"x" * 65536) < 20 * 1024 * 1024
    assert await _sent_until_cut_off(address, b"POST" + head, b"x" * 65536) < ENDLESS


async def _sent_until_cut_off(address: Address, begin: bytes, more: bytes) -> int:
    """Return the bytes that were sent before the connection ended; ENDLESS if it did not end."""
    reader, writer = await asyncio.open_connection(*address[:2])
    sent = 0
    reading = asyncio.create_task(reader.read())
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionError):
            writer.write(begin)
            while sent < ENDLESS and not reading.done():
                writer.write(more)
                sent += len(more)
                await writer.drain()
                await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    writer.close()
    return sent


async def test_a_head_that_is_too_long_is_refused_although_it_comes_whole(address: Address, echo: Echo) -> None:
    long = b"x: %s\r\n" % (b"x" * embedded.OVERHEAD_LIMIT)
    response = await exchange(address, b"POST /cancel HTTP/1.1\r\n" + HOST + long + b"content-length: 2\r\n\r\n{}")
    assert response == b"" or response.startswith(b"HTTP/1.1 400 ")
    assert echo.ran == []


async def test_a_request_has_so_many_headers_at_the_most(address: Address, echo: Echo) -> None:
    """Short headers cost far more memory than their bytes: thousands fit into the limit of bytes."""
    others = heads.MOST_HEADERS - 2
    last = LAST.replace(b"\r\n\r\n", b"\r\n" + b"a:b\r\n" * others)
    assert (await exchange(address, last + b"\r\n")).startswith(b"HTTP/1.1 200 ")
    refused = await exchange(address, last + b"a:b\r\n\r\n")
    assert refused.startswith(b"HTTP/1.1 400 ")
    assert b"headers" in refused
    assert echo.ran == ["GET /last"]


async def test_a_body_may_come_in_as_many_chunks_as_it_has_lines(address: Address, echo: Echo) -> None:
    lines = b'e\r\n{"payload":1}\n\r\n' * 10_000
    response = await exchange(address, CHUNKED + lines + b"0\r\nx-checksum: 1\r\n\r\n" + LAST)
    assert len(response) > 140_000
    assert echo.ran == ["POST /read", "GET /last"]


async def test_a_flood_of_requests_waits_and_each_is_answered_in_order(address: Address, echo: Echo) -> None:
    echo.gate.clear()
    count = 20_000
    reader, writer = await asyncio.open_connection(*address[:2])
    flood = b"".join(b"GET /%d HTTP/1.1\r\n%s\r\n" % (n, HOST) for n in range(count)) + LAST
    sending = asyncio.create_task(_send(writer, flood))
    for _ in range(100):
        await asyncio.sleep(0.005)
        assert _cycles() < 1000  # only a slice more than may wait is parsed
    echo.gate.set()
    async with asyncio.timeout(30):
        await reader.read()
        await sending
    writer.close()
    assert echo.ran == [f"GET /{n}" for n in range(count)] + ["GET /last"]


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


def _cycles() -> int:
    return sum(type(thing).__name__ == "RequestResponseCycle" for thing in gc.get_objects())


async def test_malformed_http_is_refused_after_the_responses_before_it(address: Address, echo: Echo) -> None:
    echo.gate.clear()
    request = b"GET /first HTTP/1.1\r\n" + HOST + b"\r\n"
    exchanging = asyncio.create_task(exchange(address, request, request + CHUNKED + b"nonsense\r\n"))
    await asyncio.sleep(0.1)
    echo.gate.set()
    response = await exchanging
    assert [line.split()[1] for line in response.split(b"\r\n") if line.startswith(b"HTTP/")] == [b"200"]
    assert response.count(b"HTTP/1.1 200 ") == 2
    assert response.count(b"HTTP/1.1 400 ") == 1
    assert response.index(b" 400 ") > response.rindex(b"GET /first")
    assert echo.ran == ["GET /first"] * 2


async def test_an_idle_connection_holds_nothing_of_its_last_request(address: Address) -> None:
    marker = b"x" * 50_000 + b"marker"
    reader, writer = await asyncio.open_connection(*address[:2])
    writer.write(b"POST /read HTTP/1.1\r\n" + HOST + b"x: " + marker + b"\r\ncontent-length: 3\r\n\r\nabc")
    await reader.readuntil(b"POST /read abc")
    held = [thing for thing in gc.get_objects() if isinstance(thing, tuple) and len(thing) == 2 and thing[1] == marker]
    writer.close()
    assert held == []
