"""Which addresses the task `http` may connect to: those of the Internet, and the networks that the operator lists."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from typing import Any

import httpcore

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: IPv6 addresses that stand for an IPv4 address in their last 32 bits (RFC 6052).
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class NotAllowed(Exception):
    """An address that may not be called."""


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to addresses that may be called, and to no others."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self._networks = tuple(networks)
        self._real = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, check, connect to the first address that answers. Raises NotAllowed if any may not be called."""
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(place[0]) for *_, place in found))
        for address in addresses:
            if not self._may(ipaddress.ip_address(address.partition("%")[0])):
                named = host if host == address else f"{host} ({address})"
                raise NotAllowed(f"{named} is no public address, and its network is not listed (tasks.http_networks)")
        failure: Exception = OSError(f"{host} has no address")
        for address in addresses:
            try:
                return await self._real.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Nobody asks for one. Raises NotAllowed."""
        raise NotAllowed(f"{path}: a socket is no URL")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    def _may(self, address: Address) -> bool:
        real = embedded(address)
        return any(real in network or address in network for network in self._networks) or public(real)


def public(address: Address) -> bool:
    """Whether this is an ordinary address of the Internet."""
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, if it stands for one."""
    if not isinstance(address, ipaddress.IPv6Address):
        return address
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None) or address


def networks(text: str) -> tuple[Network, ...]:
    """The networks of the setting. Raises ValueError."""
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ValueError(f"section [tasks], key 'http_networks': {error}") from None
