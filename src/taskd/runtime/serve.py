"""Serves HTTP inside a process that also does other work.

uvicorn runs in the process's event loop, without its signal handling: signals belong to the process. The socket is bound before
anything else starts, so a taken port is one clear line and not a traceback from the middle of a start.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

from taskd.domain.errors import ConfigurationError
from taskd.runtime.duty import end
from taskd.runtime.embedded import BACKLOG, Application, embedded
from taskd.runtime.tls import Identity

#: Seconds after which the kernel cuts off a client that takes nothing of its answer.
READ_DEADLINE = 60.0


class Address(NamedTuple):
    """A HOST:PORT to listen on; an empty host means every interface."""

    host: str
    port: int
    secure: bool = False

    def __str__(self) -> str:
        """Return HOST:PORT, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """A URL that reaches the address from this machine."""
        host = "localhost" if self.host in ("", "0.0.0.0", "::") else self.host  # noqa: S104  compared, not bound
        return f"{'https' if self.secure else 'http'}://{Address(host, self.port)}"


def parse_address(text: str, option: str) -> Address:
    """Parse HOST:PORT. Raises ConfigurationError, which names `option`."""
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal() and int(port[:6]) <= 65535):
        raise ConfigurationError(f"{text!r} is no address to listen on: {option} takes HOST:PORT, as in :8080")
    if host.startswith("[") != host.endswith("]") or (":" in host and not host.startswith("[")):
        raise ConfigurationError(f"{text!r} is no address to listen on: write an IPv6 host as [::1]:8080 in {option}")
    return Address(host.strip("[]"), int(port))


def local(address: Address) -> bool:
    """Return True if only this machine can reach the address."""
    if not address.host:
        return False
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all(ipaddress.ip_address(place[0]).is_loopback for *_, place in found)


@contextlib.asynccontextmanager
async def serving(
    app: Application,
    addr: str,
    option: str,
    *,
    grace: float = 5.0,
    closing: Callable[[], None] = lambda: None,
    identity: Identity | None = None,
) -> AsyncIterator[Address]:
    """Serve `app` on `addr` until the context ends; yields the address with the real port (`:0` takes a free one).

    With an `identity`, by TLS only.

    At the end no new request is taken, `closing` is called (for long polls to answer), and open requests get `grace` seconds.
    Raises ConfigurationError, naming `option`, if the address cannot be used.
    """
    wanted = parse_address(addr, option)
    sockets = _bind(wanted, option)
    for one in sockets:
        _tune(one)
    server = embedded(app, grace, identity.context if identity else None)
    running = asyncio.create_task(server.serve(sockets=sockets))
    renewing = asyncio.create_task(identity.renew()) if identity else None
    try:
        ready = asyncio.create_task(server.ready.wait())
        await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if running.done():
            running.result()
        yield Address(wanted.host, sockets[0].getsockname()[1], secure=identity is not None)
    finally:
        if renewing is not None:
            await end(renewing)
        server.should_exit = True
        closing()
        await running


def _bind(wanted: Address, option: str) -> list[socket.socket]:
    """Return listening sockets for every address of the host."""
    if wanted.host == "":
        return [_everywhere(wanted.port, option)]
    try:
        found = socket.getaddrinfo(wanted.host, wanted.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigurationError(
            f"{wanted}: {wanted.host!r} is no host of this machine ({error}): see {option}"
        ) from None
    sockets: list[socket.socket] = []
    failures: list[OSError] = []
    for family, *_, place in dict.fromkeys(found):
        # With port 0, all sockets take the first one's port.
        port = sockets[0].getsockname()[1] if sockets else wanted.port
        try:
            sockets.append(_listen(family, (place[0], port)))
        except OSError as error:
            failures.append(error)
    taken = next((f for f in failures if f.errno == errno.EADDRINUSE), None)
    if not sockets or taken is not None:
        for sock in sockets:
            sock.close()
        raise _refused(wanted, taken or failures[0], option)
    return sockets


def _everywhere(port: int, option: str) -> socket.socket:
    """Return one socket for IPv4 and IPv6, or IPv4 alone where there is no IPv6."""
    try:
        if socket.has_dualstack_ipv6():
            try:
                return socket.create_server(
                    ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG, reuse_port=False
                )
            except OSError as error:
                if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    raise
        return _listen(socket.AF_INET, ("", port))
    except OSError as error:
        raise _refused(Address("", port), error, option) from None


def _listen(family: socket.AddressFamily, place: tuple[Any, Any]) -> socket.socket:
    return socket.create_server(place, family=family, backlog=BACKLOG)


def _tune(listener: socket.socket) -> None:
    """Set the options that accepted connections inherit."""
    # uvloop sets it itself; without, an answer's body waits 40 ms for its head to be acknowledged.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(READ_DEADLINE * 1000))


def _refused(wanted: Address, error: OSError, option: str) -> ConfigurationError:
    if error.errno == errno.EADDRINUSE:
        return ConfigurationError(f"{wanted} is taken by another process: choose another with {option}")
    if error.errno == errno.EACCES:
        return ConfigurationError(
            f"{wanted} needs more rights than this process has: choose a port above 1023 with {option}"
        )
    reason = os.strerror(error.errno) if error.errno else str(error)
    return ConfigurationError(f"cannot listen on {wanted} ({reason}): choose another address with {option}")
