"""Addresses that the task `http` may connect to: public ones, and those in the networks that the operator lists."""

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

#: IPv6 addresses that are assigned for the Internet; all others are special, fec0::/10 and ::10.0.0.1 among them.
GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")

#: Every entry of IANA's registries of special-purpose addresses, also those that may be routed; multicast; and the addresses
#: of clouds' metadata services. Python's own list (`is_global`) differs from version to version.
SPECIAL: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "168.63.129.16/32",  # Azure's; those of other clouds are in the networks above
        "2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
    )
)  # fmt: skip


class NotAllowed(Exception):
    """Raised for an address that may not be called."""


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects only to addresses that may be called."""

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
        """Resolve the host, check all its addresses, and connect to the first that answers.

        Raises NotAllowed if any of them may not be called.
        """
        entries = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in entries))
        for address in addresses:
            if not self._allows(ipaddress.ip_address(address.partition("%")[0])):
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
        """Refuse: raises NotAllowed."""
        raise NotAllowed(f"{path}: a socket is no URL")

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await asyncio.sleep(seconds)

    def _allows(self, address: Address) -> bool:
        real = embedded(address)
        return any(real in network for network in self._networks) or public(real)


def public(address: Address) -> bool:
    """Return True for an ordinary address of the Internet."""
    if isinstance(address, ipaddress.IPv6Address) and address not in GLOBAL_UNICAST:
        return False
    return address.is_global and not any(address in network for network in SPECIAL)


def embedded(address: Address) -> Address:
    """Return the IPv4 address that packets to an IPv6 address go to; any other address as it is.

    This machine translates IPv4-mapped addresses, and its network may translate NAT64 ones. Other forms that contain an IPv4
    address, as 6to4 and Teredo do, are never public.
    """
    if not isinstance(address, ipaddress.IPv6Address):
        return address
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address


def networks(text: str) -> tuple[Network, ...]:
    """Return the networks of the setting. Raises ValueError for an invalid one."""
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ValueError(f"section [tasks], key 'http_networks': {error}") from None
