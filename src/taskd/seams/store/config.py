"""The live configuration: its versions in the store, and its editor for the API."""

from __future__ import annotations

from typing import Any, Protocol

from taskd.domain.config import Version


class ConfigStore(Protocol):
    """Keeps every version of the live configuration."""

    async def latest(self) -> Version:
        """Return the version that holds; version 0 if nothing was ever set."""
        ...

    async def history(self, before: int, limit: int) -> list[Version]:
        """Return versions lower than `before`, newest first."""
        ...

    async def since(self, key: str) -> Version | None:
        """Return the version since which a key has its present value; None if it was never set."""
        ...

    async def append(self, made_from: Version, *, who: str, what: str, values: dict[str, Any]) -> Version | None:
        """Add a version; return None if `made_from` is not the latest any more."""
        ...


class ConfigEditing(Protocol):
    """Reads and changes the live configuration, for the API. Every method raises StoreUnavailable."""

    async def latest(self) -> Version:
        """Return the version that holds."""
        ...

    async def history(self, before: int, limit: int) -> list[Version]:
        """Return versions lower than `before`, newest first."""
        ...

    async def since(self, key: str) -> Version | None:
        """Return the version since which a key has its present value; None if it was never set."""
        ...

    async def set(self, key: str, value: object, who: str) -> Version:
        """Set one key. Raises InvalidLiveValue."""
        ...

    async def unset(self, key: str, who: str) -> Version:
        """Remove a key, so that each process's own setting holds again. Raises InvalidLiveValue.

        Returns the latest version if the key is not set.
        """
        ...

    async def rollback(self, version: int, who: str) -> Version:
        """Make a new version with the values of an old one. Raises InvalidLiveValue if there is no such version."""
        ...
