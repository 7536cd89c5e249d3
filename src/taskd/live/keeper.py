"""The leader keeps etcd's copy of the live configuration true: after a wipe, or when somebody wrote there behind our back."""

from __future__ import annotations

import asyncio

from taskd.domain.claim import Term
from taskd.domain.errors import CoordinatorUnavailable, StoreUnavailable
from taskd.runtime.log import logger
from taskd.seams import Coordinator, LiveStore

#: Seconds between comparisons when nothing seems to have changed.
EVERY = 10.0
#: Seconds between tries while one of the two is away.
AWAY = 1.0


class Keeper:
    """Compares etcd's copy with PostgreSQL's, and puts the latter there."""

    def __init__(self, store: LiveStore, coordinator: Coordinator) -> None:
        self._store = store
        self._coordinator = coordinator

    async def run(self, _: Term) -> None:
        """Compare until cancelled. Writes nothing but what PostgreSQL says, so it needs no fence."""
        while True:
            pause = EVERY
            try:
                latest = await self._store.latest()
                if latest.version and self._coordinator.health.ok and self._coordinator.configuration != latest:
                    await self._coordinator.publish(latest)
                    logger().info("put the live configuration back into etcd", version=latest.version)
            except (StoreUnavailable, CoordinatorUnavailable):
                pause = AWAY
            try:
                async with asyncio.timeout(pause):
                    await self._coordinator.changed()
                await asyncio.sleep(AWAY)  # others write there all the time
            except TimeoutError:
                continue
