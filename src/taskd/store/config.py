"""Versions of the live configuration."""

from __future__ import annotations

from typing import Any

import msgspec

from taskd.domain.config import Version
from taskd.store.lane import PAGE_BYTES, Lane
from taskd.store.statements import statement

LATEST = statement("config_latest")
HISTORY = statement("config_history")
SINCE = statement("config_since")
APPEND = statement("config_append")


class PostgresConfigStore:
    """Implements `taskd.seams.ConfigStore`."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def latest(self) -> Version:
        rows = await self._lane.fetch(LATEST)
        return _version(rows[0]) if rows else Version()

    async def history(self, before: int, limit: int) -> list[Version]:
        parameters = {"before": before, "limit": limit, "budget": PAGE_BYTES}
        return [_version(row) for row in await self._lane.fetch(HISTORY, parameters)]

    async def since(self, key: str) -> Version | None:
        rows = await self._lane.fetch(SINCE, {"key": key})
        return _version(rows[0]) if rows else None

    async def append(self, made_from: Version, *, who: str, what: str, values: dict[str, Any]) -> Version | None:
        parameters = {
            "version": made_from.version + 1,
            "who": who,
            "what": what,
            "values": msgspec.json.encode(values).decode(),
        }
        rows = await self._lane.fetch(APPEND, parameters)
        return _version(rows[0]) if rows else None


def _version(row: tuple[Any, ...]) -> Version:
    version, at, who, what, values = row
    decoded = msgspec.json.decode(values, type=dict[str, Any])
    return Version(version=version, at=at, who=who, what=what, values=decoded)
