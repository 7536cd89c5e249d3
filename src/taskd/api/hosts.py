"""Rules against web pages that use a scheduler through the browser of a person who can reach it.

DNS rebinding points a page's own host name at this scheduler. So, while there are no tokens, only known host names are
answered. A change that a page of another site asks for is recognised by the headers that browsers add. Clients other than
browsers do not send these headers, and pass.
"""

from __future__ import annotations

import re
import socket
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from taskd.api.problems import Problem
from taskd.api.responses import Header
from taskd.domain.errors import ConfigurationError
from taskd.runtime import meters
from taskd.settings import HttpSettings

#: Methods that change nothing.
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
#: Values of Sec-Fetch-Site for requests of a page of this origin, or of the user.
OWN_SITE = (b"same-origin", b"none")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)\.?(?::([0-9]{0,5}))?")
#: The most Host headers whose check is cached.
_CACHE_SIZE = 256


class Authority(NamedTuple):
    """A host in lower case and without brackets, and its port, if one is named."""

    host: str
    port: int | None

    @property
    def address(self) -> IPv4Address | IPv6Address | None:
        """The host as an IP address; an IPv4 address that is mapped into IPv6 is returned as IPv4."""
        try:
            address = ip_address(self.host)
        except ValueError:
            return None
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        return mapped or address


def authority(text: str) -> Authority | None:
    """Split HOST[:PORT]; return None for anything else."""
    match = _AUTHORITY.fullmatch(text.lower())
    if match is None or int(match[2] or 0) > 65535:
        return None
    host = match[1]
    if host.startswith("["):
        try:
            host = ip_address(host[1:-1]).compressed
        except ValueError:
            return None
    return Authority(host, int(match[2]) if match[2] else None)


class Hosts:
    """The host names that a scheduler answers to without tokens, and the origins of the pages that may change something.

    Raises ConfigurationError if `http.hosts` is not a list of hosts.
    """

    def __init__(self, settings: HttpSettings) -> None:
        self._listed = frozenset(_listed(settings.hosts))
        host = settings.addr.rpartition(":")[0]
        listening = authority(host) or authority(f"[{host}]")
        self._names = {listening.host} if listening is not None else set()
        self._network = settings.insecure
        if self._network:
            self._names.add(socket.gethostname().lower())
        self._known: dict[bytes, bool] = {}

    def known(self, host: bytes | None) -> bool:
        """Return True if a Host header names this scheduler."""
        if host is None:
            return False
        known = self._known.get(host)
        if known is None:
            if len(self._known) >= _CACHE_SIZE:
                self._known.clear()
            known = self._known[host] = self._is_known(authority(host.decode("latin-1")))
        return known

    def _is_known(self, host: Authority | None) -> bool:
        if host is None:
            return False
        if host in self._listed or Authority(host.host, None) in self._listed or host.host in self._names:
            return True
        address = host.address
        if address is None:
            return host.host == "localhost" or host.host.endswith(".localhost")
        # Rebinding needs a name. Where the network is trusted, the host may be any address of this machine.
        return address.is_loopback or (self._network and not address.is_unspecified)

    def check(self, host: bytes | None) -> None:
        """Raise a 421 Problem unless the Host header names this scheduler."""
        if not self.known(host):
            meters.TURNED_AWAY.labels("host").inc()
            given = "no Host header" if host is None else f"the Host {host.decode('latin-1')[:100]!r}"
            raise Problem(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"{given} is not answered while there are no API tokens: add the name to http.hosts, or make a token",
            )

    def check_page(self, headers: list[Header], host: bytes | None, scheme: str) -> None:
        """Raise a 403 Problem for a change that a page of another origin requests."""
        for name, value in headers:
            if name == b"sec-fetch-site" and value not in OWN_SITE:
                raise _foreign(name, value)
            if name == b"origin" and not self._is_own(value, host, scheme):
                raise _foreign(name, value)

    def _is_own(self, origin: bytes, host: bytes | None, scheme: str) -> bool:
        """Return True if an Origin is this scheduler's: it has the request's own host and port, or listed ones.

        A proxy may terminate TLS, so an https origin is accepted on an http connection, and not the other way round.
        """
        kind, _, rest = origin.decode("latin-1").lower().partition("://")
        page = authority(rest)
        if page is None or kind not in _DEFAULT_PORTS or (scheme == "https" and kind == "http"):
            return False
        default = _DEFAULT_PORTS[kind]
        page = Authority(page.host, page.port if page.port is not None else default)
        asked = authority(host.decode("latin-1")) if host is not None else None
        port = default if asked is None or asked.port is None else asked.port
        if asked is not None and page == (asked.host, port):
            return True
        return page in self._listed or (Authority(page.host, None) in self._listed and page.port in (port, default))


def _listed(text: str) -> list[Authority]:
    hosts = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        host = authority(entry)
        if host is None:
            raise ConfigurationError(
                f"http.hosts: {entry!r} is not HOST or HOST:PORT, as in taskd.example.com, [fd00::5]:8080"
            )
        hosts.append(host)
    return hosts


def _foreign(name: bytes, value: bytes) -> Problem:
    meters.TURNED_AWAY.labels("cross_site").inc()
    return Problem(
        HTTPStatus.FORBIDDEN,
        f"a page of another site may not change anything here ({name.decode().title()}: {value.decode('latin-1')[:100]});"
        " if it is this scheduler's own, behind a proxy, add its host to http.hosts",
    )
