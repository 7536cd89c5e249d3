"""Who sends or takes at a crawl is cut off, and nobody else is."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from taskd.runtime import embedded, serve
from taskd.runtime.serve import Address, serving
from tests.servers import wait_until_async

BRIEF = 0.3
HEAD = b"GET / HTTP/1.1\r\nhost: taskd\r\n"
#: More than the buffers between two sockets of one machine hold.
MUCH = 64 * 1024 * 1024


async def _answer(scope: Any, receive: Any, send: Any) -> None:
    body = b"x" * (MUCH if scope["path"] == "/much" else 2)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def address(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Address]:
    monkeypatch.setattr(embedded, "HEAD_DEADLINE", BRIEF)
    monkeypatch.setattr(embedded, "BODY_DEADLINE", BRIEF)
    monkeypatch.setattr(serve, "READ_DEADLINE", 2.0)
    async with serving(_answer, "127.0.0.1:0", "--http-addr", grace=1.0) as address:
        yield address


@pytest.mark.parametrize("said", [b"", HEAD], ids=["nothing", "half a head"])
async def test_a_head_that_never_ends_is_cut_off(address: Address, said: bytes) -> None:
    reader, writer = await asyncio.open_connection(*address[:2])
    writer.write(said)
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()


async def test_a_connection_that_asked_once_may_be_idle_but_not_begin_and_stop(address: Address) -> None:
    reader, writer = await asyncio.open_connection(*address[:2])
    writer.write(HEAD + b"\r\n")
    assert b"200" in await reader.readuntil(b"xx")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3 * BRIEF):
            await reader.read(1)
    writer.write(HEAD)
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()


async def test_a_body_that_nobody_asks_for_must_arrive_all_the_same(address: Address) -> None:
    reader, writer = await asyncio.open_connection(*address[:2])
    writer.write(HEAD.replace(b"GET", b"POST") + b"content-length: 1000\r\n\r\n")
    assert b"200" in await reader.readuntil(b"xx")
    writer.write(b"x")
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux cuts those off who do not read")
async def test_an_answer_that_nobody_takes_is_given_up(address: Address) -> None:
    """The kernel ends the connection: what was not in its buffers by then never comes."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, address[:2])
        await loop.sock_sendall(client, HEAD.replace(b"/ ", b"/much ") + b"\r\n")
        assert _connections(address.port) == 1
        await wait_until_async(lambda: not _connections(address.port), 30)
        taken = 0
        with contextlib.suppress(ConnectionResetError):
            while chunk := await loop.sock_recv(client, 1 << 20):
                taken += len(chunk)
        assert taken < MUCH


def _connections(port: int) -> int:
    """How many established connections the server's side has."""
    with open("/proc/net/tcp", encoding="ascii") as table:
        return sum(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "01" for line in table)
