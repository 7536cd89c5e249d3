"""Slow clients, in a process of their own: the client that is timed must not share an interpreter with them.

`python -m tests.chaos.drip PORT CLIENTS` opens so many connections, says how many got in, and goes on sending each a byte a
second, all of them spread over that second, until its stdin ends.
"""

from __future__ import annotations

import select
import socket
import sys

#: Seconds from one byte of a client to its next, and the steps in which all get theirs.
PAUSE, STEPS = 1.0, 50


def connect(port: int, clients: int) -> list[socket.socket]:
    """Those that got in, each with the beginning of a request that will have no end."""
    ends: list[socket.socket] = []
    for _ in range(clients):
        try:
            ends.append(end := socket.create_connection(("127.0.0.1", port), timeout=2))
            end.sendall(b"POST /jobs HTTP/1.1\r\nHost: x\r\n")
        except OSError:
            continue
    return ends


def main(port: int, clients: int) -> None:
    """Drip until nobody wants it any longer."""
    ends = connect(port, clients)
    print(len(ends), flush=True)
    step = 0
    while not select.select([sys.stdin], [], [], PAUSE / STEPS)[0]:
        for end in ends[step % STEPS :: STEPS]:
            try:
                end.sendall(b"X")
            except OSError:
                continue  # the server has had enough of it
        step += 1


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
