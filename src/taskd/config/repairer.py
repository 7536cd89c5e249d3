"""Repairs etcd's copy of the live configuration, on the leader: after a wipe, or when another program wrote there."""

from __future__ import annotations

import asyncio

from taskd.domain.config import Version
from taskd.domain.errors import CoordinatorUnavailable, StoreUnavailable
from taskd.domain.fencing import Term
from taskd.runtime.log import logger
from taskd.seams import ConfigStore, Coordinator

#: Seconds between comparisons while nothing changes, and at least between two repairs. Beside a newer taskd with keys that
#: this one does not know, each repair would be followed by the next.
EVERY = 10.0
#: Seconds between tries while etcd or PostgreSQL is away.
AWAY = 1.0


class Repairer:
    """Compares etcd's copy with PostgreSQL's latest version, and puts that version into etcd where they differ."""

    def __init__(self, store: ConfigStore, coordinator: Coordinator) -> None:
        self._store = store
        self._coordinator = coordinator
        #: etcd's copy at the last comparison, and whether etcd answered then.
        self._seen: tuple[Version | None, bool] = None, False

    async def run(self, _: Term) -> None:
        """Compare until cancelled. It needs no fence, since it writes only PostgreSQL's latest version."""
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
    def _copy(self) -> tuple[Version | None, bool]:
        return self._coordinator.configuration, self._coordinator.health.ok

    async def _compare(self) -> bool:
        latest = await self._store.latest()
        copy, answers = self._seen = self._copy
        if not answers or copy == latest or (copy is None and not latest.version):
            return False
        await self._coordinator.publish(latest)
        logger().info("put the live configuration back into etcd", version=latest.version)
        return True

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(EVERY):
                while self._copy == self._seen:  # other keys of etcd change too
                    await self._coordinator.changed()
        except TimeoutError:
            return
        await asyncio.sleep(AWAY)  # another program may keep writing there
