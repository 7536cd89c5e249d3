"""Tests that clients that send or read at a crawl are cut off, and no others."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from taskd.runtime import embedded, meters, serve, stall
from taskd.runtime.serve import Address, serving
from taskd.runtime.stall import Stall
from tests.servers import wait_until_async

BRIEF = 0.3
HEAD = b"GET / HTTP/1.1\r\nhost: taskd\r\n"
#: More bytes than the buffers between two sockets of one machine hold.
MUCH = 64 * 1024 * 1024
#: The size of a page that a client does not read at once.
PAGE = 8 * 1024 * 1024
#: The sizes of the answers that were made, and the stalls of the server.
MADE: list[int] = []
STALLS: list[dict[Stall, None]] = []


async def _answer(scope: Any, receive: Any, send: Any) -> None:
    body = b"x" * {"/much": MUCH, "/page": PAGE}.get(scope["path"], 2)
    MADE.append(len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def address(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Address]:
    monkeypatch.setattr(embedded, "HEAD_DEADLINE", BRIEF)
    monkeypatch.setattr(embedded, "BODY_DEADLINE", BRIEF)
    monkeypatch.setattr(serve, "READ_DEADLINE", 2.0)
    MADE.clear()
    STALLS.clear()
    monkeypatch.setattr(embedded, "Stall", _recorded)
    async with serving(_answer, "127.0.0.1:0", "--http-addr", grace=1.0) as address:
        yield address


@pytest.mark.parametrize("sent", [b"", HEAD], ids=["nothing", "half a head"])
async def test_a_head_that_never_ends_is_cut_off(address: Address, sent: bytes) -> None:
    reader, writer = await asyncio.open_connection(*address[:2])
    writer.write(sent)
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


async def test_an_unread_body_must_arrive_in_time_too(address: Address) -> None:
    reader, writer = await asyncio.open_connection(*address[:2])
    writer.write(HEAD.replace(b"GET", b"POST") + b"content-length: 1000\r\n\r\n")
    assert b"200" in await reader.readuntil(b"xx")
    writer.write(b"x")
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux cuts those off who do not read")
async def test_a_response_that_is_not_read_is_given_up(address: Address) -> None:
    """The kernel ends the connection; bytes that were not in its buffers by then are lost."""
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
    """Return the number of established connections of the server."""
    with open("/proc/net/tcp", encoding="ascii") as table:
        return sum(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "01" for line in table)


async def test_responses_that_are_read_at_a_crawl_are_given_up(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that reads a little now and then passes the kernel's timeout, and holds the memory."""
    monkeypatch.setattr(serve, "READ_DEADLINE", 60.0)
    monkeypatch.setattr(stall, "TAKE_DEADLINE", BRIEF)
    before = meters.TURNED_AWAY.labels("slow")._value.get()
    with socket.create_connection(address[:2]) as client:
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, HEAD.replace(b"/ ", b"/much ") + b"\r\n")
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionResetError):
                while meters.TURNED_AWAY.labels("slow")._value.get() == before:
                    await loop.sock_recv(client, 100)
                    await asyncio.sleep(0.01)
        assert meters.TURNED_AWAY.labels("slow")._value.get() == before + 1
        assert _untaken() == 0


async def test_a_client_that_reads_slowly_gets_the_whole_response(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stall, "TAKE_DEADLINE", BRIEF)
    reader, writer = await asyncio.open_connection(*address[:2], limit=1024)
    writer.write(HEAD.replace(b"/ ", b"/page ") + b"connection: close\r\n\r\n")
    taken = 0
    while chunk := await reader.read(256 * 1024):
        taken += len(chunk)
        await asyncio.sleep(0.01)
    writer.close()
    assert taken > PAGE


async def test_unread_responses_are_bounded_in_total(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many clients that do not read, earlier ones are cut off; the last one may still get its response."""
    async with asking_for_pages(address) as ask:
        await ask()
        most = _untaken() * 7 // 2
        monkeypatch.setattr(stall, "UNTAKEN_LIMIT", most)
        for _ in range(11):
            last = await ask()
            assert _untaken() <= most
        await wait_until_async(lambda: _connections(address.port) <= 4)
        await _read(last, PAGE)


async def test_clients_that_read_are_cut_after_those_that_do_not(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stall, "YOUNG", 0.0)
    before = meters.TURNED_AWAY.labels("slow")._value.get()
    async with asking_for_pages(address) as ask:
        reads = await ask()
        whole, taken = _untaken(), 0
        while _untaken() == whole:  # a client that reads, but not to the end
            taken += await _read(reads, 65536)
        await ask()
        # Less than a page, and more than the difference between waiting pages: the kernel buffers a part of each.
        monkeypatch.setattr(stall, "UNTAKEN_LIMIT", _untaken() + PAGE // 4)
        await ask()
        assert meters.TURNED_AWAY.labels("slow")._value.get() == before + 1
        await _read(reads, PAGE - taken)


@contextlib.asynccontextmanager
async def asking_for_pages(address: Address) -> AsyncIterator[Callable[[], Awaitable[socket.socket]]]:
    """Yield a function that requests a page on a new connection, and returns once the page waits to be read."""
    with contextlib.ExitStack() as stack:

        async def ask() -> socket.socket:
            client = stack.enter_context(socket.create_connection(address[:2]))
            client.setblocking(False)
            made = len(MADE)
            await asyncio.get_running_loop().sock_sendall(client, HEAD.replace(b"/ ", b"/page ") + b"\r\n")
            await wait_until_async(lambda: len(MADE) > made and _untaken())
            return client

        yield ask


async def _read(client: socket.socket, size: int) -> int:
    """Read at least `size` bytes; return how many were read."""
    taken = 0
    while taken < size:
        chunk = await asyncio.get_running_loop().sock_recv(client, 65536)
        assert chunk, (taken, size)
        taken += len(chunk)
    return taken


async def test_a_client_that_does_not_read_gets_one_response_at_a_time(address: Address) -> None:
    """Test any number of requests, one after another or all at once."""
    with socket.create_connection(address[:2]) as client:
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        for _ in range(5):
            await loop.sock_sendall(client, (HEAD.replace(b"/ ", b"/page ") + b"\r\n") * 20)
            await asyncio.sleep(0.02)
        await wait_until_async(lambda: _untaken() > 0)
        assert _untaken() <= PAGE + 1000
        assert MADE == [PAGE]


def _untaken() -> int:
    return sum(stalled.untaken for stalls in STALLS[-1:] for stalled in stalls)


def _recorded(transport: asyncio.Transport, others: dict[Stall, None]) -> Stall:
    STALLS.append(others)
    return Stall(transport, others)
