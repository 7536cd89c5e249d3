"""Rules that keep web pages from using a scheduler through the browser of a person who can reach it.

DNS rebinding leads a page's own name to this scheduler: so while there are no tokens only known names are answered to. Changes
that other pages ask for are recognised by the headers that browsers add. Other clients send none of these, and pass.
"""

from __future__ import annotations

import re
import socket
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from taskd.api.answers import Header
from taskd.api.problems import Problem
from taskd.domain.errors import ConfigurationError
from taskd.runtime import meters
from taskd.settings import HttpSettings

#: Methods that change nothing.
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
#: What a browser says of a request that a page of this very origin makes, or its user.
OWN_SITE = (b"same-origin", b"none")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)\.?(?::([0-9]{0,5}))?")
#: Host headers whose answer is remembered.
_REMEMBERED = 256


class Authority(NamedTuple):
    """A host, in lower case and without brackets, and a port if one is named."""

    host: str
    port: int | None

    @property
    def address(self) -> IPv4Address | IPv6Address | None:
        """The host as an IP address; an IPv4 address inside of IPv6 is taken out."""
        try:
            address = ip_address(self.host)
        except ValueError:
            return None
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        return mapped or address


def authority(text: str) -> Authority | None:
    """Take HOST[:PORT] apart; None for anything else."""
    found = _AUTHORITY.fullmatch(text.lower())
    if found is None or int(found[2] or 0) > 65535:
        return None
    host = found[1]
    if host.startswith("["):
        try:
            host = ip_address(host[1:-1]).compressed
        except ValueError:
            return None
    return Authority(host, int(found[2]) if found[2] else None)


class Hosts:
    """The names that a scheduler with these settings answers to without tokens, and the pages whose changes it takes.

    Raises ConfigurationError for an `http.hosts` that is no list of them.
    """

    def __init__(self, settings: HttpSettings) -> None:
        self._listed = frozenset(_listed(settings.hosts))
        own = settings.addr.rpartition(":")[0]
        told = authority(own) or authority(f"[{own}]")
        self._names = {told.host} if told is not None else set()
        self._network = settings.insecure
        if self._network:
            self._names.add(socket.gethostname().lower())
        self._known: dict[bytes, bool] = {}

    def known(self, host: bytes | None) -> bool:
        """Whether a Host header names this scheduler."""
        if host is None:
            return False
        known = self._known.get(host)
        if known is None:
            if len(self._known) >= _REMEMBERED:
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
        # Rebinding needs a name: where a network is let in, the host may be any address by which this machine is reached.
        return address.is_loopback or (self._network and not address.is_unspecified)

    def check(self, host: bytes | None) -> None:
        """Raise a 421 Problem unless the Host header names this scheduler."""
        if not self.known(host):
            meters.TURNED_AWAY.labels("host").inc()
            shown = "no Host header" if host is None else f"the Host {host.decode('latin-1')[:100]!r}"
            raise Problem(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"{shown} is not answered to while there are no API tokens: add the name to http.hosts, or make a token",
            )

    def check_page(self, headers: list[Header], host: bytes | None, scheme: str) -> None:
        """Raise a 403 Problem for a change that a page of another origin asks for."""
        for name, value in headers:
            if name == b"sec-fetch-site" and value not in OWN_SITE:
                raise _foreign(name, value)
            if name == b"origin" and not self._is_own(value, host, scheme):
                raise _foreign(name, value)

    def _is_own(self, origin: bytes, host: bytes | None, scheme: str) -> bool:
        """Whether an Origin is this scheduler's: of the request's own host and port, or of a listed one.

        A proxy may have ended TLS, so https is taken where http is spoken, but not the other way round.
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
    found = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        host = authority(entry)
        if host is None:
            raise ConfigurationError(
                f"http.hosts: {entry!r} is no HOST or HOST:PORT, as in taskd.example.com, [fd00::5]:8080"
            )
        found.append(host)
    return found


def _foreign(name: bytes, value: bytes) -> Problem:
    meters.TURNED_AWAY.labels("cross_site").inc()
    return Problem(
        HTTPStatus.FORBIDDEN,
        f"a page of another site may change nothing here ({name.decode().title()}: {value.decode('latin-1')[:100]});"
        " if it is this scheduler's own, behind a proxy, add its host to http.hosts",
    )
