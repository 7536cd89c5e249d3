"""Changes the live configuration: checks the values, stores a new version in PostgreSQL, and spreads it through etcd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from taskd.domain.config import Version, check, known
from taskd.domain.errors import CoordinatorUnavailable, InvalidLiveValue, StoreUnavailable
from taskd.runtime.config import Config
from taskd.runtime.log import logger
from taskd.seams import ConfigStore, Coordinator

#: Tries of one change, each on top of a change that another process made meanwhile.
TRIES = 5

Change = Callable[[dict[str, Any]], dict[str, Any]]


class ConfigEditor:
    """Implements `taskd.seams.ConfigEditing`."""

    def __init__(self, store: ConfigStore, coordinator: Coordinator, config: Config) -> None:
        self._store = store
        self._coordinator = coordinator
        self._config = config

    async def latest(self) -> Version:
        """Return the latest version."""
        return await self._store.latest()

    async def history(self, before: int, limit: int) -> list[Version]:
        """Return versions lower than `before`, newest first."""
        return await self._store.history(before, limit)

    async def since(self, key: str) -> Version | None:
        """Return the version since which a key has its current value; None if it was never set."""
        return await self._store.since(key)

    async def set(self, key: str, value: object, who: str) -> Version:
        """Set one key. Raises InvalidLiveValue."""
        checked = check(key, value)
        return await self._change(lambda values: {**values, key: checked}, who, f"set {key} = {_json(checked)}")

    async def unset(self, key: str, who: str) -> Version:
        """Remove one key, so that each process's own settings apply. Return the latest version. Raises InvalidLiveValue."""
        known(key)
        latest = await self._store.latest()
        if key not in latest.values:
            return latest
        return await self._change(
            lambda values: {name: value for name, value in values.items() if name != key}, who, f"unset {key}"
        )

    async def rollback(self, version: int, who: str) -> Version:
        """Store a new version with the values of an old one (0: no values). Raises InvalidLiveValue for an unknown version."""
        versions = await self._store.history(version + 1, 1) if version else [Version()]
        if not versions or versions[0].version != version:
            raise InvalidLiveValue(f"there is no version {version}")
        values = {key: check(key, value) for key, value in versions[0].values.items()}
        return await self._change(lambda _: values, who, f"rollback to version {version}")

    async def _change(self, change: Change, who: str, what: str) -> Version:
        for _ in range(TRIES):
            before = await self._store.latest()
            made = await self._store.append(before, who=who, what=what, values=change(dict(before.values)))
            if made is not None:
                await self._spread(made)
                return made
        raise StoreUnavailable("other clients keep changing the live configuration: try again", shown=True)

    async def _spread(self, made: Version) -> None:
        """Put the version into etcd, and then any newer one that another process stored meanwhile.

        The last process to put a version is also the last to look for a newer one, so etcd never keeps an old one.
        """
        while True:
            self._config.take(made)
            try:
                await self._coordinator.publish(made)
                latest = await self._store.latest()
            except CoordinatorUnavailable as error:
                logger().warning("etcd is away: other processes ask PostgreSQL for the change", error=str(error))
                return
            except StoreUnavailable:
                return  # the change is stored; the leader compares etcd's copy later
            if latest.version <= made.version:
                return
            made = latest


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
