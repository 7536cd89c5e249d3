"""The leader keeps etcd's copy of the live configuration true: after a wipe, or when somebody wrote there behind our back."""

from __future__ import annotations

import asyncio

from taskd.domain.claim import Term
from taskd.domain.errors import CoordinatorUnavailable, StoreUnavailable
from taskd.domain.live import Version
from taskd.runtime.log import logger
from taskd.seams import ConfigStore, Coordinator

#: Seconds between comparisons when nothing seems to have changed, and at least between two repairs: where a newer taskd has
#: keys that this one does not know, each repair would ask for the next.
EVERY = 10.0
#: Seconds between tries while one of the two is away.
AWAY = 1.0


class Keeper:
    """Compares etcd's copy with PostgreSQL's, and puts the latter there."""

    def __init__(self, store: ConfigStore, coordinator: Coordinator) -> None:
        self._store = store
        self._coordinator = coordinator
        #: What etcd had at the last comparison, and whether that was etcd's own word.
        self._seen: tuple[Version | None, bool] = None, False

    async def run(self, _: Term) -> None:
        """Compare until cancelled. Writes nothing but what PostgreSQL says, so it needs no fence."""
        while True:
            try:
                repaired = await self._compare()
            except (StoreUnavailable, CoordinatorUnavailable):
                await asyncio.sleep(AWAY)
                continue
            if repaired:
                await asyncio.sleep(EVERY)
            else:
                await self._rest()

    @property
    def _sight(self) -> tuple[Version | None, bool]:
        return self._coordinator.configuration, self._coordinator.health.ok

    async def _compare(self) -> bool:
        latest = await self._store.latest()
        spread, well = self._seen = self._sight
        if not well or spread == latest or (spread is None and not latest.version):
            return False
        await self._coordinator.publish(latest)
        logger().info("put the live configuration back into etcd", version=latest.version)
        return True

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(EVERY):
                while self._sight == self._seen:  # of all that changes there, this is ours
                    await self._coordinator.changed()
        except TimeoutError:
            return
        await asyncio.sleep(AWAY)  # somebody may be writing there all the time
