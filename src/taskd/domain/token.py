"""API tokens: their form, and what they allow.

A token is `taskd_ID_SECRET`. The id finds it, and may be shown anywhere; the secret is 256 random bits, and only its SHA-256
is ever stored (a slow hash is for secrets that can be guessed).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import datetime

import msgspec

from taskd.domain.scope import Scope

PREFIX = "taskd"


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A token. `queues` None: all; `rate`: requests a second, None: the scheduler's setting."""

    id: str
    name: str
    digest: bytes
    scopes: frozenset[Scope]
    queues: frozenset[str] | None = None
    rate: float | None = None

    def allows(self, scope: Scope) -> bool:
        """Return True if the token has this scope, or `admin`."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def sees(self, queue: str) -> bool:
        """Return True if the token may read and change this queue's jobs."""
        return self.queues is None or queue in self.queues

    def proves(self, secret: str) -> bool:
        """Return True if this is the token's secret, in a time that does not depend on how much of it is right."""
        return hmac.compare_digest(self.digest, digest(secret))


class TokenRecord(Token, frozen=True, kw_only=True):
    """A token with its history, for administrators."""

    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    revoked_by: str | None = None


class Keyring(msgspec.Struct, frozen=True):
    """The valid tokens, by id. `closed`: a token exists or existed, so every request needs one."""

    closed: bool
    tokens: dict[str, Token]


def make() -> tuple[str, str, bytes]:
    """Return a new token's id, its text (seen only this once), and the digest of its secret."""
    token_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    return token_id, f"{PREFIX}_{token_id}_{secret}", digest(secret)


def split(text: str) -> tuple[str, str] | None:
    """Return the id and the secret; None for a text that is no token."""
    prefix, _, rest = text.partition("_")
    token_id, _, secret = rest.partition("_")
    return (token_id, secret) if prefix == PREFIX and token_id and secret else None


def digest(secret: str) -> bytes:
    """Return the digest of a secret, which is stored instead of it."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
