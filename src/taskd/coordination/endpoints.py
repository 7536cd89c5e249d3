"""Where etcd listens: the setting `etcd.endpoints`, checked before anything connects."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from taskd.domain.errors import ConfigurationError

EXAMPLE = "for example localhost:2379 or http://etcd-1:2379,http://etcd-2:2379"


def parse(endpoints: str) -> list[str]:
    """The `HOST:PORT` of each comma-separated endpoint, in order and without doubles.

    Raises ConfigurationError for what is no address, and for what this client cannot do: TLS and passwords.
    """
    found = [_address(text.strip()) for text in endpoints.split(",") if text.strip()]
    if not found:
        raise ConfigurationError(f"section [etcd], key 'endpoints': is empty; give HOST:PORT, {EXAMPLE}")
    return list(dict.fromkeys(found))


def _address(text: str) -> str:
    url = _split(text)
    if url.scheme == "https":
        raise _wrong(text, "TLS to etcd is not supported; use http:// and a network that you trust")
    if url.scheme != "http" or url.path not in ("", "/") or url.query or url.fragment:
        raise _wrong(text, f"is no HOST:PORT, {EXAMPLE}")
    if "@" in url.netloc:
        raise _wrong(url.netloc.rpartition("@")[2], "a user name or password is not supported; leave it out")
    try:
        host, port = url.hostname, url.port
    except ValueError:
        raise _wrong(text, "the port is no number from 1 to 65535") from None
    if not host or not port:
        raise _wrong(text, f"host or port is missing, {EXAMPLE}")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _split(text: str) -> SplitResult:
    try:
        return urlsplit(text if "://" in text else f"http://{text}")
    except ValueError:
        raise _wrong(text, f"is no HOST:PORT, {EXAMPLE}") from None


def _wrong(text: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"section [etcd], key 'endpoints': {text}: {why}")
