"""The search for free loopback ports."""

from __future__ import annotations

import random
import socket

LOOPBACK = "127.0.0.1"
#: Below the ports that the kernel gives to outgoing connections, so that a server that is down keeps its port.
FIRST, LAST = 10_000, 32_000

_given: set[int] = set()


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Return True if a server could listen on `port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a free port, never the same twice in one process. Raises OSError if a thousand tries find none."""
    for _ in range(1000):
        port = random.randint(FIRST, LAST)  # noqa: S311  a port is public
        if port not in _given and is_free(port):
            _given.add(port)
            return port
    raise OSError(f"no free port between {FIRST} and {LAST} on {LOOPBACK}")


def free_range(length: int) -> int:
    """Return the first of so many free ports in a row. Raises OSError as `free_port` does."""
    for _ in range(1000):
        first = free_port()
        if all(is_free(port) for port in range(first, first + length)):
            return first
    raise OSError(f"no {length} free ports in a row between {FIRST} and {LAST} on {LOOPBACK}")
