"""A fake server with canned responses, for failures that a real scheduler cannot be made to produce."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


def response(status: str, document: object, *headers: str) -> bytes:
    """Return a response with a status line, JSON and further headers. Its connection ends with it.

    Otherwise a fast client may send its next request on a connection that is about to be closed.
    """
    body = json.dumps(document).encode()
    more = "".join(f"{header}\r\n" for header in headers)
    return f"HTTP/1.1 {status}\r\n{more}connection: close\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


JOB = response("201 Created", {"id": 1, "status": "pending"})
AWAY = response("503 Service Unavailable", {"detail": "PostgreSQL is away"})
UNSURE = response("503 Service Unavailable", {"detail": "PostgreSQL is away", "outcome_unknown": True})


@contextmanager
def listening(*replies: bytes | None) -> Iterator[tuple[str, list[bytes]]]:
    """Yield the URL of a server that sends one response per connection (None: it closes), and the requests so far."""
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
    """Yield the URL of a server that accepts connections and never responds, as a stopped process."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def deaf() -> Iterator[str]:
    """Yield the URL of a server that completes no connection, as a host that drops packets: its backlog is full."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def _request(connection: socket.socket) -> bytes:
    """Return one whole request: head and body may come in two pieces."""
    request = b""
    while chunk := connection.recv(65_536):
        request += chunk
        head, end, body = request.partition(b"\r\n\r\n")
        if end and len(body) >= _length(head):
            break
    return request


def _length(head: bytes) -> int:
    lines = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return int(lines[0].partition(b":")[2]) if lines else 0


def idempotency_key(request: bytes) -> bytes:
    """Return the Idempotency-Key header of a request."""
    (line,) = [line for line in request.split(b"\r\n") if line.lower().startswith(b"idempotency-key:")]
    return line.lower()
