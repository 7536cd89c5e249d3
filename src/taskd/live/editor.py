"""Changes to the live configuration: checked, then a new version in PostgreSQL, then spread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from taskd.domain.errors import CoordinatorUnavailable, InvalidLiveValue, StoreUnavailable
from taskd.domain.live import Version, check, known
from taskd.runtime.live import Live
from taskd.runtime.log import logger
from taskd.seams import ConfigStore, Coordinator

#: How often a change is made again on top of somebody else's.
TRIES = 5

Change = Callable[[dict[str, Any]], dict[str, Any]]


class Editor:
    """Implements `taskd.seams.LiveEditor`."""

    def __init__(self, store: ConfigStore, coordinator: Coordinator, live: Live) -> None:
        self._store = store
        self._coordinator = coordinator
        self._live = live

    async def latest(self) -> Version:
        """The version that counts."""
        return await self._store.latest()

    async def history(self, before: int, limit: int) -> list[Version]:
        """Versions lower than `before`, newest first."""
        return await self._store.history(before, limit)

    async def since(self, key: str) -> Version | None:
        """The version since which a key has the value that it has now; None if it was never set."""
        return await self._store.since(key)

    async def set(self, key: str, value: object, who: str) -> Version:
        """Set one key. Raises InvalidLiveValue."""
        checked = check(key, value)
        return await self._change(lambda values: {**values, key: checked}, who, f"set {key} = {_json(checked)}")

    async def unset(self, key: str, who: str) -> Version:
        """Let the processes' own settings decide again; the latest version if the key is not set. Raises InvalidLiveValue."""
        known(key)
        latest = await self._store.latest()
        if key not in latest.values:
            return latest
        return await self._change(
            lambda values: {name: value for name, value in values.items() if name != key}, who, f"unset {key}"
        )

    async def rollback(self, version: int, who: str) -> Version:
        """Make a new version with the values of an old one (0: none at all). Raises InvalidLiveValue if there is none such."""
        found = await self._store.history(version + 1, 1) if version else [Version()]
        if not found or found[0].version != version:
            raise InvalidLiveValue(f"there is no version {version}")
        values = {key: check(key, value) for key, value in found[0].values.items()}
        return await self._change(lambda _: values, who, f"rollback to version {version}")

    async def _change(self, change: Change, who: str, what: str) -> Version:
        for _ in range(TRIES):
            before = await self._store.latest()
            made = await self._store.append(before, who=who, what=what, values=change(dict(before.values)))
            if made is not None:
                await self._spread(made)
                return made
        raise StoreUnavailable("others change the live configuration all the time: try again", shown=True)

    async def _spread(self, made: Version) -> None:
        """Put the version into etcd, and then any newer one that somebody made meanwhile.

        Whoever puts last looks last, so etcd never ends with an old one.
        """
        while True:
            self._live.take(made)
            try:
                await self._coordinator.publish(made)
                latest = await self._store.latest()
            except CoordinatorUnavailable as error:
                logger().warning("etcd is away: other processes ask PostgreSQL for the change", error=str(error))
                return
            except StoreUnavailable:
                return  # the change is made; the leader's keeper compares again
            if latest.version <= made.version:
                return
            made = latest


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
