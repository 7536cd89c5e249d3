"""Slow HTTP clients in a separate process: the measuring client must not share an interpreter with them.

`python -m tests.chaos.slow_clients PORT CLIENTS` opens CLIENTS connections and prints how many were accepted. Then it
sends one byte a second on each, spread over that second, until its stdin ends.
"""

from __future__ import annotations

import select
import socket
import sys

#: Seconds from one byte of a client to its next, and the number of steps in which all clients send.
PAUSE, STEPS = 1.0, 50


def connect(port: int, clients: int) -> list[socket.socket]:
    """Return the accepted connections, each with the beginning of a request that never ends."""
    connections: list[socket.socket] = []
    for _ in range(clients):
        try:
            connections.append(connection := socket.create_connection(("127.0.0.1", port), timeout=2))
            connection.sendall(b"POST /jobs HTTP/1.1\r\nHost: x\r\n")
        except OSError:
            continue
    return connections


def main(port: int, clients: int) -> None:
    """Send bytes until stdin ends."""
    connections = connect(port, clients)
    print(len(connections), flush=True)
    step = 0
    while not select.select([sys.stdin], [], [], PAUSE / STEPS)[0]:
        for connection in connections[step % STEPS :: STEPS]:
            try:
                connection.sendall(b"X")
            except OSError:
                continue  # the server has closed the connection
        step += 1


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
