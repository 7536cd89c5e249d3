"""Direct use of a connection's socket, without the driver."""

from __future__ import annotations

import select
import socket
from typing import Any

import psycopg

Connection = psycopg.Connection[Any] | psycopg.AsyncConnection[Any]


def sever(connection: Connection) -> None:
    """Shut the socket down, so that every call that waits for it ends at once.

    Closing it here would end the process: the event loop may watch it since a moment ago, and libuv calls abort() when it
    finds such a descriptor closed.
    """
    try:
        twin = socket.socket(fileno=connection.pgconn.socket)
    except (OSError, psycopg.Error):
        return  # it is closed already
    try:
        twin.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it is broken already
    finally:
        twin.detach()


def hung_up(connection: Connection) -> bool:
    """Return True if an idle connection has something to read: the server closed it, or said why it is about to."""
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    return bool(poll.poll(0))
