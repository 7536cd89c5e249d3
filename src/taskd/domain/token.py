"""API tokens: what one looks like, and what it allows.

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
    """What is known of a token. `queues` None: all; `rate` None: the scheduler's setting, in requests a second."""

    id: str
    name: str
    digest: bytes
    scopes: frozenset[Scope]
    queues: frozenset[str] | None = None
    rate: float | None = None

    def allows(self, scope: Scope) -> bool:
        """Whether it may do what needs this scope."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def sees(self, queue: str) -> bool:
        """Whether it may deal with this queue's jobs."""
        return self.queues is None or queue in self.queues

    def proves(self, secret: str) -> bool:
        """Whether this is its secret, in a time that says nothing about how much of it is right."""
        return hmac.compare_digest(self.digest, digest(secret))


class TokenRecord(Token, frozen=True, kw_only=True):
    """A token's whole record, for those who administer them."""

    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    revoked_by: str | None = None


class Keyring(msgspec.Struct, frozen=True):
    """The tokens that hold now, by id. `closed`: there is, or ever was, one, so that nobody gets in without."""

    closed: bool
    tokens: dict[str, Token]


def make() -> tuple[str, str, bytes]:
    """A new token's id, its text (the only time that it is seen), and its secret's digest."""
    token_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    return token_id, f"{PREFIX}_{token_id}_{secret}", digest(secret)


def split(text: str) -> tuple[str, str] | None:
    """The id and the secret; None for what is no token."""
    prefix, _, rest = text.partition("_")
    token_id, _, secret = rest.partition("_")
    return (token_id, secret) if prefix == PREFIX and token_id and secret else None


def digest(secret: str) -> bytes:
    """What is stored of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
