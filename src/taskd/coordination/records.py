"""Values and errors of the client of etcd, without gRPC."""

from __future__ import annotations

import msgspec

from taskd.domain.errors import CoordinatorUnavailable


class EtcdRefused(CoordinatorUnavailable):
    """etcd answered and refused (no space, no permission)."""


class LeaseGone(Exception):
    """etcd does not know the lease (any longer)."""


class HistoryGone(Exception):
    """etcd lacks the history asked for: it was compacted, or the data is another etcd's."""


class KeyValue(msgspec.Struct, frozen=True):
    """One key as etcd has it."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    #: The lease with which it vanishes; 0 for none.
    lease: int = 0


class WatchEvent(msgspec.Struct, frozen=True):
    """One change of one key. For a deletion, only key and mod_revision have a meaning."""

    deleted: bool
    kv: KeyValue


class Listing(msgspec.Struct, frozen=True):
    """All keys under a prefix at one revision."""

    revision: int
    keys: list[KeyValue]


class EndpointStatus(msgspec.Struct, frozen=True):
    """The status of one etcd server. `size` is in bytes."""

    endpoint: str
    version: str
    size: int
    has_leader: bool
    errors: list[str]
    alarms: list[str]


def why(details: str, *, secure: bool) -> str:
    """Return the reason why an endpoint cannot be used, in one line, from gRPC's text.

    A server that refuses a client certificate says so within the handshake in TLS 1.2. In TLS 1.3 (etcd 3.4 and later, as newer
    compilers build them) it says so after the handshake, as the connection's first record or by closing it.
    """
    if "CERTIFICATE_VERIFY_FAILED" in details:
        reason = details.partition("CERTIFICATE_VERIFY_FAILED")[2].strip(": ").removesuffix(": OK")
        return f"has a certificate that is not accepted: {reason} (see ca_file in section [etcd])"
    if "Hostname Verification" in details:
        return "has a certificate for another name"
    if secure and ("WRONG_VERSION_NUMBER" in details or "Handshake read failed" in details):
        return "does not speak TLS: write it without https:// in section [etcd], or give etcd a certificate"
    if "ALERT" in details or "TSI_DATA_CORRUPTED" in details or "Unwrap failed" in details:
        return "does not accept the client certificate: see cert_file in section [etcd]"
    if "Socket closed" in details or "Connection reset" in details:
        hint = (
            "it may not accept the client certificate (see cert_file"
            if secure
            else "it may speak TLS only (write https://"
        )
        return f"closed the connection: {hint} in section [etcd])"
    if "connect" in details:
        return f"cannot be reached: {details.rpartition(': ')[2]}"
    return f"is unavailable: {details}"
