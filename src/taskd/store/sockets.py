"""What is done to a connection's socket behind the driver's back."""

from __future__ import annotations

import select
import socket
from typing import Any

import psycopg

Connection = psycopg.Connection[Any] | psycopg.AsyncConnection[Any]


def sever(connection: Connection) -> None:
    """Shut the socket down: who waits for it hears of its end at once.

    Closing it here would be the end of the process: the event loop may have been asked a moment ago to watch it, and libuv
    calls abort() when it finds such a descriptor closed.
    """
    try:
        same = socket.socket(fileno=connection.pgconn.socket)
    except (OSError, psycopg.Error):
        return  # it is closed already
    try:
        same.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it is broken already
    finally:
        same.detach()


def hung_up(connection: Connection) -> bool:
    """True if an idle connection has something to read: the server closed it, or said why it is about to."""
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    return bool(poll.poll(0))
