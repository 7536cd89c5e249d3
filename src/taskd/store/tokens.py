"""API tokens."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

import msgspec

from taskd.domain.scope import Scope
from taskd.domain.token import Keyring, Token, TokenRecord
from taskd.store.lane import Lane
from taskd.store.statements import statement

ALL = statement("tokens")
KEYRING = statement("keyring")
CREATE = statement("create_token")
REVOKE = statement("revoke_token")

_list_of = msgspec.json.Decoder(list[msgspec.Raw])
_token = msgspec.json.Decoder(Token)


class PostgresTokens:
    """Implements `taskd.seams.Tokens`. The other methods are for `taskd token`."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def keyring(self) -> Keyring:
        ((closed, text),) = await self._lane.fetch(KEYRING)
        return Keyring(
            closed, {token.id: token for token in map(_readable, _list_of.decode(text)) if token is not None}
        )

    async def all(self) -> list[tuple[TokenRecord, bool]]:
        """Return every token, also ended ones, newest first, each with whether it is valid now."""
        return [(_record(row), bool(row[-1])) for row in await self._lane.fetch(ALL)]

    async def create(self, token: Token, *, who: str, lifetime: float | None) -> datetime | None:
        """Store a new token that ends after `lifetime` seconds (None: never); return when that is."""
        parameters = {
            "token_id": token.id,
            "name": token.name,
            "digest": token.digest,
            "scopes": _list(token.scopes),
            "queues": _list(token.queues) if token.queues is not None else None,
            "rate": token.rate,
            "who": who,
            "lifetime": lifetime,
        }
        ((expires_at,),) = await self._lane.fetch(CREATE, parameters)
        end: datetime | None = expires_at
        return end

    async def revoke(self, token_id: str, who: str) -> str | None:
        """End a token; return its name, or None if there is no such token or it had ended before."""
        rows = await self._lane.fetch(REVOKE, {"token_id": token_id, "who": who})
        return str(rows[0][0]) if rows else None


def _readable(text: msgspec.Raw) -> Token | None:
    """Return the token; None for one of a newer taskd that this one cannot read: it is valid there only."""
    try:
        return _token.decode(text)
    except msgspec.ValidationError:
        return None


def _list(names: Iterable[str]) -> list[str]:
    return sorted(str(name) for name in names)


def _set(names: Collection[str] | None) -> frozenset[str] | None:
    return frozenset(names) if names is not None else None


def _record(row: tuple[Any, ...]) -> TokenRecord:
    token_id, name, digest, scopes, queues, rate, created_at, created_by, expires_at, revoked_at, revoked_by, _ = row
    return TokenRecord(
        id=token_id,
        name=name,
        digest=digest,
        scopes=frozenset(Scope(scope) for scope in scopes if scope in set(Scope)),
        queues=_set(queues),
        rate=rate,
        created_at=created_at,
        created_by=created_by,
        expires_at=expires_at,
        revoked_at=revoked_at,
        revoked_by=revoked_by,
    )
