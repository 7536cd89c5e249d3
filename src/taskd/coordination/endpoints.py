"""The endpoints of etcd: the setting `etcd.endpoints`, checked before anything connects."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from taskd.domain.errors import ConfigurationError
from taskd.runtime.tls import Trust, pem
from taskd.settings import EtcdSettings

EXAMPLE = "for example localhost:2379 or https://etcd-1:2379,https://etcd-2:2379"


class Endpoint(NamedTuple):
    """One server of etcd: HOST:PORT, and True for TLS."""

    address: str
    secure: bool = False


class Pems(NamedTuple):
    """The files of TLS, as PEM; None: the system's authorities, or no client certificate."""

    authorities: bytes | None
    key: bytes | None
    certificate: bytes | None


def reach(settings: EtcdSettings) -> tuple[list[Endpoint], Pems | None]:
    """Return the endpoints of these settings, and the files for the secure ones. Raises ConfigurationError."""
    endpoints = parse(settings.endpoints)
    trust = Trust(settings.ca_file, settings.cert_file, settings.key_file)
    if not any(endpoint.secure for endpoint in endpoints):
        if trust.given:
            raise ConfigurationError("section [etcd]: ca_file and cert_file are for https://, and no endpoint has it")
        return endpoints, None
    trust.check("etcd")
    named = (("ca_file", trust.ca_file), ("key_file", trust.key_file), ("cert_file", trust.cert_file))
    return endpoints, Pems(*(pem(file, "etcd", key) for key, file in named))


def parse(endpoints: str) -> list[Endpoint]:
    """Return each comma-separated endpoint, in order and without duplicates.

    Raises ConfigurationError for a malformed address, and for passwords, which this client does not support.
    """
    addresses = [_address(text.strip()) for text in endpoints.split(",") if text.strip()]
    if not addresses:
        raise ConfigurationError(f"section [etcd], key 'endpoints': is empty; give HOST:PORT, {EXAMPLE}")
    return list(dict.fromkeys(addresses))


def _address(text: str) -> Endpoint:
    url = _split(text)
    if url.scheme not in ("http", "https") or url.path not in ("", "/") or url.query or url.fragment:
        raise _wrong(text, f"is no HOST:PORT, {EXAMPLE}")
    if "@" in url.netloc:
        raise _wrong(url.netloc.rpartition("@")[2], "a user name or password is not supported; use client certificates")
    try:
        host, port = url.hostname, url.port
    except ValueError:
        raise _wrong(text, "the port is no number from 1 to 65535") from None
    if not host or not port:
        raise _wrong(text, f"host or port is missing, {EXAMPLE}")
    return Endpoint(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", url.scheme == "https")


def _split(text: str) -> SplitResult:
    try:
        return urlsplit(text if "://" in text else f"http://{text}")
    except ValueError:
        raise _wrong(text, f"is no HOST:PORT, {EXAMPLE}") from None


def _wrong(text: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"section [etcd], key 'endpoints': {text}: {why}")
