"""The connections of the blocking client."""

from __future__ import annotations

import contextlib
import http.client
import select
import ssl
from collections.abc import Iterable

from taskd.client.failures import unconnected
from taskd.client.servers import ServerAddress, tls_context

#: The most idle connections to one address.
MAX_IDLE = 10


class ConnectionPool:
    """Idle connections by address. Thread-safe: a connection is taken and put back in one step each."""

    def __init__(self, servers: Iterable[ServerAddress], ca_file: str | None) -> None:
        self._ca_file = ca_file
        self._tls: ssl.SSLContext | None = None
        self._idle: dict[str, list[http.client.HTTPConnection]] = {server.url: [] for server in servers}

    def take(self, server: ServerAddress, timeout: float) -> http.client.HTTPConnection:
        """Return an open connection, within `timeout` seconds. Raises ClientError: nothing was sent yet."""
        idle = self._take_idle(server)
        if idle is not None:
            return idle
        connection = self._new(server, timeout)
        try:
            connection.connect()
        except OSError as error:
            raise unconnected(server.url, error) from None
        return connection

    def put_back(self, server: ServerAddress, connection: http.client.HTTPConnection) -> None:
        """Keep a connection whose response was read, or close it if there are enough."""
        if connection.sock is not None and len(self._idle[server.url]) < MAX_IDLE:
            self._idle[server.url].append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close the idle connections."""
        for connections in self._idle.values():
            with contextlib.suppress(IndexError):
                while True:
                    connections.pop().close()

    def _new(self, server: ServerAddress, timeout: float) -> http.client.HTTPConnection:
        if not server.secure:
            return http.client.HTTPConnection(server.host, server.port, timeout=timeout)
        if self._tls is None:
            self._tls = tls_context(self._ca_file)
        return http.client.HTTPSConnection(server.host, server.port, timeout=timeout, context=self._tls)

    def _take_idle(self, server: ServerAddress) -> http.client.HTTPConnection | None:
        """Take an idle connection that its server has not closed."""
        while True:
            try:
                connection = self._idle[server.url].pop()
            except IndexError:
                return None
            if not _closed_by_server(connection):
                return connection
            connection.close()


def _closed_by_server(connection: http.client.HTTPConnection) -> bool:
    """Return True if there is something to read although no request was sent."""
    poll = select.poll()  # unlike select, for any number of open files
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))
