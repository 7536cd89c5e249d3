"""Test a process without descriptors for new connections: they wait, one log line gives the reason, none is reset."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.servers import wait_until

LIMIT = 64
REQUEST = b"GET %s HTTP/1.1\r\nhost: localhost\r\n\r\n"
#: A server whose application can use up all descriptors, release them, and count the waits of new connections.
SERVER = f"""
import asyncio, os, resource
from taskd.runtime import log, meters
from taskd.runtime.lifecycle import run
from taskd.runtime.serve import serving
from taskd.settings import LogSettings

resource.setrlimit(resource.RLIMIT_NOFILE, ({LIMIT}, {LIMIT}))
log.configure(LogSettings(format="JSON"))
kept = []


def use_up():
    while True:
        try:
            kept.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            return


async def app(scope, receive, send):
    if scope["path"] == "/use-up":
        use_up()
    while scope["path"] == "/free" and kept:
        os.close(kept.pop())
    body = str(int(meters.ACCEPT_PAUSES._value.get())).encode()
    await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]}})
    await send({{"type": "http.response.body", "body": body}})


async def main():
    async with serving(app, "127.0.0.1:0", "--http-addr", grace=1.0) as address:
        print(address.port, flush=True)
        await asyncio.to_thread(input)
    return 0


run(main())
"""


class ServerProcess:
    """Process of the server, and connections to it."""

    def __init__(self, popen: subprocess.Popen[str], log: Path, stack: ExitStack) -> None:
        self.popen = popen
        self._log = log
        self._stack = stack
        assert popen.stdout is not None
        self._port = int(popen.stdout.readline())

    @property
    def lines(self) -> list[str]:
        return [line for line in self._log.read_text().splitlines() if "new connections must wait" in line]

    @property
    def cpu(self) -> float:
        """Return the seconds of processor time so far."""
        fields = Path(f"/proc/{self.popen.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=20)
        return self._stack.enter_context(connection)


def ask(connection: socket.socket, path: bytes = b"/") -> bytes:
    connection.sendall(REQUEST % path)
    return receive(connection)


def receive(connection: socket.socket) -> bytes:
    answer = connection.recv(65536)
    while not answer.partition(b"\r\n\r\n")[2]:
        more = connection.recv(65536)
        assert more, answer
        answer += more
    assert answer.startswith(b"HTTP/1.1 200 ")
    return answer.partition(b"\r\n\r\n")[2]


@pytest.fixture
def child(tmp_path: Path) -> Iterator[ServerProcess]:
    log = tmp_path / "log"
    with ExitStack() as stack, log.open("wb") as stderr:
        popen = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
        try:
            yield ServerProcess(popen, log, stack)
        finally:
            popen.kill()
            popen.communicate()


def test_connections_beyond_the_limit_wait_for_others_to_end(child: ServerProcess) -> None:
    first = [child.connect() for _ in range(LIMIT // 2)]
    for connection in first:
        ask(connection)
    late = [child.connect() for _ in range(20)]
    for connection in late:
        connection.sendall(REQUEST % b"/late")
    wait_until(lambda: child.lines, 10)
    ask(first[0])  # open connections are served meanwhile
    for connection in first[1:]:
        connection.close()
    for connection in late:
        receive(connection)
    (line,) = child.lines
    assert "ulimit -n" in line
    assert f'"limit": {LIMIT}' in line


def test_without_any_descriptor_connections_wait_and_nothing_is_busy(child: ServerProcess) -> None:
    kept = child.connect()
    paused = int(ask(kept, b"/use-up"))
    late = child.connect()
    late.sendall(REQUEST % b"/late")
    wait_until(lambda: int(ask(kept)) >= paused + 4, 20)
    used = child.cpu
    wait_until(lambda: int(ask(kept)) >= paused + 8, 20)  # about a second of the listener's pauses
    assert child.cpu - used < 0.5
    ask(kept, b"/free")
    receive(late)
    (line,) = child.lines
    assert "Too many open files" in line
