"""A persistent key: kept in etcd for as long as wanted, and put again after each loss of the session or of the key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from taskd.coordination.client import EtcdClient
from taskd.coordination.mirror import Mirror
from taskd.coordination.notifier import Notifier
from taskd.coordination.records import EtcdRefused, LeaseGone
from taskd.coordination.session import EtcdSession, Lease
from taskd.domain.errors import CoordinatorUnavailable
from taskd.runtime.duty import end, forever
from taskd.runtime.log import logger

RETRY = 1.0


class KeyPlacement(msgspec.Struct):
    """The key as it was put: its name, its lease, and its create_revision once that is known (0 before)."""

    key: str
    lease: Lease
    revision: int = 0
    value: bytes = b""


class PersistentKey:
    """Keeps one key while `standing` is open. `value` is called again each `every` seconds; None: once for each put."""

    def __init__(
        self,
        client: EtcdClient,
        session: EtcdSession,
        mirror: Mirror[Any],
        notifier: Notifier,
        folder: Callable[[], str],
        value: Callable[[], bytes],
        every: float | None = None,
    ) -> None:
        self._client = client
        self._session = session
        self._mirror = mirror
        self._notifier = notifier
        self._folder = folder
        self._value = value
        self._every = every
        self._due = 0.0
        self._place: KeyPlacement | None = None
        self._writing: asyncio.Task[Any] | None = None
        self._complaint = ""

    @property
    def place(self) -> KeyPlacement | None:
        """The placement of the key, while it is put and its lease is certainly alive."""
        place = self._place
        return place if place is not None and place.revision and place.lease.alive else None

    @asynccontextmanager
    async def standing(self) -> AsyncIterator[None]:
        """Keep the key in the background. Delete it at the end, and wait for etcd for a moment at most."""
        keeper = asyncio.create_task(forever("etcd key", self._keep))
        try:
            yield
        finally:
            place, self._place = self._place, None  # `place` is gone before etcd hears of it
            keeper.cancel()
            if place is not None and not place.lease.lost.is_set():
                await self._session.release(place.key, self._writing)
            await end(keeper)

    async def _keep(self) -> None:
        while True:
            try:
                while await self._attend():
                    """Look again: there may have been a notification during the write."""
                pause = self._pause()
            except EtcdRefused as error:
                self._complain(str(error))
                pause = RETRY
            except CoordinatorUnavailable:
                pause = RETRY  # the session reports an etcd that is away
            await self._notifier.wait(pause)

    async def _attend(self) -> bool:
        """Put or refresh the key if needed. Return True if there was anything to do."""
        lease, place = self._session.lease, self._place
        if lease is None:
            self._place = None
            return False
        if place is None or place.lease is not lease or (place.revision and self._vanished(place)):
            if place is not None:
                self._session.forget(place.key)
            self._place = place = KeyPlacement(self._session.new_key(self._folder(), lease), lease)
        try:
            if not place.revision:
                await self._put(place)
            elif self._pause() == 0.0:
                await self._refresh(place)
            else:
                return False
        except LeaseGone:
            self._session.lose(lease)
        return True

    def _pause(self) -> float | None:
        """Return the seconds until `value` is called again; None: only at a notification."""
        if self._every is None or self._place is None:
            return None
        return max(0.0, self._due - time.monotonic())

    def _vanished(self, place: KeyPlacement) -> bool:
        return self._mirror.lacks(place.key, place.revision)

    async def _put(self, place: KeyPlacement) -> None:
        """Put the key. After a put with an unknown outcome, the next try finds the same key."""
        value = self._value()
        self._writing = self._session.write(self._client.create(place.key, value, place.lease.id))
        place.revision = (await asyncio.shield(self._writing)).create_revision
        place.value = value
        self._done()
        self._notifier.notify()

    async def _refresh(self, place: KeyPlacement) -> None:
        value = self._value()
        if value != place.value:
            call = self._client.update(place.key, value, place.lease.id, place.revision)
            self._writing = self._session.write(call)
            if not await asyncio.shield(self._writing):
                self._session.forget(place.key)
                self._place = None
                return
            place.value = value
        self._done()

    def _done(self) -> None:
        self._due = time.monotonic() + (self._every or 0.0)
        self._complaint = ""

    def _complain(self, reason: str) -> None:
        if reason != self._complaint:
            logger().warning("etcd refuses a key; retrying", folder=self._folder(), reason=reason)
            self._complaint = reason
