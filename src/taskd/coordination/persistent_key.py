"""One key of ours that stands in etcd as long as we want it: put again after each loss, of the session or of the key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from taskd.coordination.client import EtcdClient, EtcdRefused, LeaseGone
from taskd.coordination.mirror import Mirror
from taskd.coordination.notifier import Notifier
from taskd.coordination.session import EtcdSession, Lease
from taskd.domain.errors import CoordinatorUnavailable
from taskd.runtime.duty import end, forever
from taskd.runtime.log import logger

RETRY = 1.0


class KeyPlacement(msgspec.Struct):
    """Where we stand: the key, its lease, and the key's create_revision once that is known (0 before)."""

    key: str
    lease: Lease
    revision: int = 0
    value: bytes = b""


class PersistentKey:
    """Keeps one key while `standing` is open. `value` is asked again each `every` seconds; None: only once a put."""

    def __init__(
        self,
        client: EtcdClient,
        session: EtcdSession,
        mirror: Mirror[Any],
        bell: Notifier,
        folder: Callable[[], str],
        value: Callable[[], bytes],
        every: float | None = None,
    ) -> None:
        self._client = client
        self._session = session
        self._mirror = mirror
        self._bell = bell
        self._folder = folder
        self._value = value
        self._every = every
        self._due = 0.0
        self._place: KeyPlacement | None = None
        self._writing: asyncio.Task[Any] | None = None
        self._complaint = ""

    @property
    def place(self) -> KeyPlacement | None:
        """Where we stand, while the key was put and its lease is certainly alive."""
        place = self._place
        return place if place is not None and place.revision and place.lease.alive else None

    @asynccontextmanager
    async def standing(self) -> AsyncIterator[None]:
        """Keep the key in the background; delete it at the end, waiting for etcd a moment at most."""
        keeper = asyncio.create_task(forever("etcd key", self._keep))
        try:
            yield
        finally:
            place, self._place = self._place, None  # whoever looks sees us gone before etcd hears of it
            keeper.cancel()
            if place is not None and not place.lease.lost.is_set():
                await self._session.release(place.key, self._writing)
            await end(keeper)

    async def _keep(self) -> None:
        while True:
            try:
                while await self._attend():
                    """Look again: the bell may have rung during the write."""
                pause = self._pause()
            except EtcdRefused as error:
                self._complain(str(error))
                pause = RETRY
            except CoordinatorUnavailable:
                pause = RETRY  # the session tells of an etcd that is away
            await self._bell.wait(pause)

    async def _attend(self) -> bool:
        """Bring the key to what it should be; whether there was anything to do."""
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
        """The seconds until the value is to be asked again; None: only the bell matters."""
        if self._every is None or self._place is None:
            return None
        return max(0.0, self._due - time.monotonic())

    def _vanished(self, place: KeyPlacement) -> bool:
        return self._mirror.lacks(place.key, place.revision)

    async def _put(self, place: KeyPlacement) -> None:
        """Put the key. After an ambiguous put the same key comes here again, and finds itself."""
        value = self._value()
        self._writing = self._session.write(self._client.create(place.key, value, place.lease.id))
        place.revision = (await asyncio.shield(self._writing)).create_revision
        place.value = value
        self._done()
        self._bell.ring()

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
            logger().warning("etcd refuses a key; trying on", folder=self._folder(), reason=reason)
            self._complaint = reason
