"""A server that gives canned replies: for failures that a real scheduler cannot be made to produce."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


def answer(status: str, document: object, *headers: str) -> bytes:
    """A reply with this status line, this JSON and further headers. It says that the connection ends with it: else a client
    that is quick may send its next request into one that is about to be closed."""
    body = json.dumps(document).encode()
    more = "".join(f"{header}\r\n" for header in headers)
    return f"HTTP/1.1 {status}\r\n{more}connection: close\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


JOB = answer("201 Created", {"id": 1, "status": "pending"})
AWAY = answer("503 Service Unavailable", {"detail": "PostgreSQL is away"})
UNSURE = answer("503 Service Unavailable", {"detail": "PostgreSQL is away", "outcome_unknown": True})


@contextmanager
def listening(*replies: bytes | None) -> Iterator[tuple[str, list[bytes]]]:
    """A server that gives one reply per connection, in turn (None: it hangs up), and what it was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for reply in replies:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    asked.append(_request(connection))
                    if reply is not None:
                        connection.sendall(reply)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", asked
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@contextmanager
def silent() -> Iterator[str]:
    """A server that takes connections and never answers, as a process that stands still."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def deaf() -> Iterator[str]:
    """A server that nobody can connect to, as a host that drops what it is sent: its line is full."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def _request(connection: socket.socket) -> bytes:
    """One whole request: head and body may come in two pieces."""
    found = b""
    while chunk := connection.recv(65_536):
        found += chunk
        head, end, body = found.partition(b"\r\n\r\n")
        if end and len(body) >= _length(head):
            break
    return found


def _length(head: bytes) -> int:
    lines = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return int(lines[0].partition(b":")[2]) if lines else 0


def idempotency_key(request: bytes) -> bytes:
    """The header of the one key that a request has."""
    (line,) = [line for line in request.split(b"\r\n") if line.lower().startswith(b"idempotency-key:")]
    return line.lower()
