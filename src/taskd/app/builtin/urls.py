"""URLs that the task `http` may call: their parts, and the checks for URLs that lead elsewhere than they seem to."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from typing import NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

import httpcore

PORTS = {"http": 80, "https": 443}
MAX_HOST = 253

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
#: Labels by which resolvers read the whole name as an IPv4 address: 2130706433, 0x7f000001, 127.1, 0177.0.0.1.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
#: ASCII characters in an overlong UTF-8 form, which lenient decoders accept: C0 AE is a full stop.
_OVERLONG = re.compile(rb"[\xc0\xc1][\x80-\xbf]|\xe0[\x80-\x9f]|\xf0[\x80-\x8f]")
_CONTROL = re.compile(r"[\0-\x1f\x7f-\x9f]")
#: A character by its number, as some servers read it: %u002e is a full stop.
_BY_NUMBER = re.compile(r"%u([0-9a-f]{4})", re.IGNORECASE)
#: The characters of a segment before the first that ends it for some servers: parameters, a query, a fragment, an NTFS stream.
_ORDINARY = re.compile(r"[\w.~-]*")


class UrlParts(NamedTuple):
    """The parts of a URL that decide where a call goes."""

    scheme: str
    host: str
    port: int
    path: str
    query: str = ""

    def covers(self, other: UrlParts) -> bool:
        """Return True if the other URL has the same server, and this path or one below it."""
        below = self.path.rstrip("/") + "/"
        return self[:3] == other[:3] and (other.path == self.path or other.path.startswith(below))

    @property
    def authority(self) -> str:
        """The value of the header `Host`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> httpcore.URL:
        """The URL to call, made of the checked parts, so that no library parses them in another way."""
        target = f"{self.path}?{self.query}" if self.query else self.path
        return httpcore.URL(scheme=self.scheme, host=self.host, port=self.port, target=target)


def parse_url(url: str) -> UrlParts:
    """Return the parts of a URL. Raises ValueError for one that could lead elsewhere than it seems to."""
    try:
        parts = urlsplit(url)
        port = parts.port
        host = _host(parts.hostname or "")
    except ValueError:
        raise ValueError(f"{url!r} is no URL") from None
    plain = url.isascii() and url.isprintable() and " " not in url and "\\" not in url and "@" not in parts.netloc
    if parts.scheme not in PORTS or not host or port == 0 or not plain:
        raise ValueError(f"{url!r} must be a plain URL, as in https://api.example.com/orders")
    if parts.path.startswith("//"):
        raise ValueError(f"{url!r} must not have an empty part at the start of its path")
    if climbs(parts.path):
        raise ValueError(f"{url!r} must not have . or .. or control characters in its path")
    return UrlParts(parts.scheme, host, port or PORTS[parts.scheme], parts.path or "/", parts.query)


def climbs(path: str) -> bool:
    """Return True if a server might read a . or .. segment in the path.

    Servers differ in what they decode, how often, and what they cut off. Control characters count too: for a server that ends
    texts at a NUL, `..%00` is `..`.
    """
    while True:
        data = unquote_to_bytes(_BY_NUMBER.sub(lambda match: chr(int(match[1], 16)), path).encode("utf-8", "replace"))
        decoded = unicodedata.normalize("NFKC", data.decode("utf-8", "replace"))
        if _OVERLONG.search(data) or _CONTROL.search(decoded):
            return True
        if decoded == path:
            break
        path = decoded
    return any(_names_a_parent(segment) for segment in re.split(r"[/\\]", path))


def _names_a_parent(segment: str) -> bool:
    """Return True if the segment up to its first unusual character is . or .., without spaces at its start."""
    start = _ORDINARY.match(segment.strip())
    return start is not None and start[0] in (".", "..")


def _host(text: str) -> str:
    """Return the host in its normal form; empty if resolvers might read it in several ways."""
    if ":" in text:
        # A zone, as in fe80::1%eth0, names a network interface of the worker.
        return "" if "%" in text else str(ipaddress.IPv6Address(text))
    name = text.removesuffix(".")
    labels = name.split(".")
    if len(name) > MAX_HOST or not all(_LABEL.fullmatch(label) for label in labels):
        return ""
    return str(ipaddress.IPv4Address(name)) if _NUMBER.fullmatch(labels[-1]) else name
