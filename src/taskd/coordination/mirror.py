"""A local copy of one folder of etcd, followed by a watch.

Guarantees: after a break the watch resumes right behind the last change that was seen, so no change is lost or repeated.
Before the copy is trusted again, it is compared with etcd's own state at that revision: an etcd that was wiped or restored
has another history, even when its revisions are already higher. Then, and after a compaction, all keys are listed anew.
`synced` is True while the watch is open; the entries are the last that were seen.

Restored data may hold keys that this process deleted since, under a lease that it still renews: a candidacy without a
candidate, which would lead for ever. They are deleted once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Generic, TypeVar

import msgspec

from taskd.coordination import keys
from taskd.coordination.client import EtcdClient
from taskd.coordination.notifier import Notifier
from taskd.coordination.records import EtcdRefused, HistoryGone, KeyValue, WatchEvent
from taskd.coordination.session import EtcdSession
from taskd.domain.errors import CoordinatorUnavailable
from taskd.runtime.discards import discard, shown
from taskd.runtime.log import logger

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0


class Entry(msgspec.Struct, Generic[T], frozen=True):
    """One key with its decoded value."""

    key: str
    create_revision: int
    value: T


class Mirror(Generic[T]):
    """Run `follow` in the background. Notifies at each change. Values for which `decode` returns None are left out."""

    def __init__(
        self,
        client: EtcdClient,
        folder: str,
        decode: Callable[[bytes], T | None],
        notifier: Notifier,
        session: EtcdSession | None = None,
        *,
        kind: str = "value",
    ) -> None:
        """`session`: given for a folder that holds keys of sessions only. `kind`: the kind of its values, for the log."""
        self.entries: dict[str, Entry[T]] = {}
        self.revision = 0
        self.synced = False
        self._client = client
        self._folder = folder
        self._decode = decode
        self._notifier = notifier
        self._session = session
        self._kind = kind
        self._known: dict[str, int] = {}
        self._complaint = ""

    def lacks(self, key: str, revision: int) -> bool:
        """Return True if a key that was there at `revision` has certainly vanished since."""
        return self.synced and self.revision >= revision and key not in self._known

    async def follow(self) -> None:
        """Keep the copy up to date until cancelled."""
        async with aclosing(self.changes()) as changes:
            async for _ in changes:
                self._notifier.notify()

    async def changes(self) -> AsyncGenerator[list[WatchEvent], None]:
        """Yield the changes in etcd's order, each batch after it was applied; an empty one when the watch is open (again)."""
        pause, listed, self.synced = FIRST_PAUSE, False, False
        while True:
            try:
                if not listed:
                    await self._list()
                    listed = True
                async with aclosing(self._client.watch(self._folder, self.revision + 1)) as batches:
                    async for events in batches:
                        if not self.synced:
                            await self._compare()
                            self.synced, pause = True, FIRST_PAUSE
                        self._apply(events)
                        yield events
            except HistoryGone:
                listed = False
            except CoordinatorUnavailable as error:
                self._complain(error)
            self.synced = False
            self._notifier.notify()
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _list(self) -> None:
        listing = await self._client.listing(self._folder)
        self.entries, self._known = {}, {}
        for kv in listing.keys:
            self._set(kv)
        self.revision = listing.revision

    async def _compare(self) -> None:
        listing = await self._client.listing(self._folder, self.revision)
        if {kv.key: kv.mod_revision for kv in listing.keys} != self._known:
            raise HistoryGone("etcd has another history than this copy")

    def _apply(self, events: list[WatchEvent]) -> None:
        for event in events:
            if event.deleted:
                self._known.pop(event.kv.key, None)
                self.entries.pop(event.kv.key, None)
            else:
                self._set(event.kv)
            self.revision = event.kv.mod_revision

    def _set(self, kv: KeyValue) -> None:
        self._known[kv.key] = kv.mod_revision
        if self._session is not None and self._session.stray(kv.key):
            logger().info("deleting an old key of this session that came back with restored data", key=shown(kv.key))
            self._session.delete_later(kv.key)
        foreign = self._session is not None and not keys.of_session(kv.key, kv.lease)
        value = self._decode(kv.value) if not foreign else None
        if value is not None:
            self.entries[kv.key] = Entry(kv.key, kv.create_revision, value)
        else:
            self.entries.pop(kv.key, None)
            discard("etcd", f"a key that is no {self._kind} of taskd's", self._folder, example=shown(kv.key))

    def _complain(self, error: CoordinatorUnavailable) -> None:
        """Log a refusal once, since the session may be well meanwhile. The session itself reports an etcd that is away."""
        if isinstance(error, EtcdRefused) and str(error) != self._complaint:
            self._complaint = str(error)
            logger().warning("etcd refuses a watch; retrying", folder=self._folder, reason=self._complaint)
