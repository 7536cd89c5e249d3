"""A local copy of one folder of etcd, followed by a watch.

Guarantees: after a break the watch resumes right behind the last change that was seen, so no change is lost or comes twice.
Before it is trusted again, the copy is compared with what etcd itself remembers of that revision: an etcd that was wiped or
restored has another past, even when its revisions have already overtaken ours. Then, and after a compaction, all is
listed anew. `synced` says whether the watch stands; the entries are the last that were seen.

Restored data may hold keys that we deleted since, under a lease that we still renew: a candidacy that nobody stands by, and
that would lead for ever. They are deleted once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Generic, TypeVar

import msgspec

from taskd.coordination import keys
from taskd.coordination.client import EtcdClient, EtcdRefused, HistoryGone, KeyValue, WatchEvent
from taskd.coordination.notifier import Notifier
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
    """Run `follow` in the background; rings the bell at each change. Values of which `decode` makes None are left out."""

    def __init__(
        self,
        client: EtcdClient,
        folder: str,
        decode: Callable[[bytes], T | None],
        bell: Notifier,
        session: EtcdSession | None = None,
        *,
        kind: str = "value",
    ) -> None:
        """`session`: whose keys may be in the folder, where only keys of sessions belong. `kind`: what its values are."""
        self.entries: dict[str, Entry[T]] = {}
        self.revision = 0
        self.synced = False
        self._client = client
        self._folder = folder
        self._decode = decode
        self._bell = bell
        self._session = session
        self._kind = kind
        self._known: dict[str, int] = {}
        self._complaint = ""

    def lacks(self, key: str, revision: int) -> bool:
        """Whether a key that was there at `revision` has certainly vanished since."""
        return self.synced and self.revision >= revision and key not in self._known

    async def follow(self) -> None:
        """Keep the copy true until cancelled."""
        async with aclosing(self.changes()) as changes:
            async for _ in changes:
                self._bell.ring()

    async def changes(self) -> AsyncGenerator[list[WatchEvent], None]:
        """The changes in etcd's order, each batch after it was applied; an empty one when the watch stands (again)."""
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
            self._bell.ring()
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _list(self) -> None:
        listing = await self._client.listing(self._folder)
        self.entries, self._known = {}, {}
        for kv in listing.keys:
            self._set(kv)
        self.revision = listing.revision

    async def _compare(self) -> None:
        then = await self._client.listing(self._folder, self.revision)
        if {kv.key: kv.mod_revision for kv in then.keys} != self._known:
            raise HistoryGone("etcd remembers another past than we do")

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
            logger().info("a key of ours is there that nobody wants; deleting it", key=shown(kv.key))
            self._session.owe(kv.key)
        foreign = self._session is not None and not keys.of_session(kv.key, kv.lease)
        value = self._decode(kv.value) if not foreign else None
        if value is not None:
            self.entries[kv.key] = Entry(kv.key, kv.create_revision, value)
        else:
            self.entries.pop(kv.key, None)
            discard("etcd", f"a key that is no {self._kind} of taskd's", self._folder, example=shown(kv.key))

    def _complain(self, error: CoordinatorUnavailable) -> None:
        """Unreachable is the session's to tell; a refusal is told once, since the session may do well meanwhile."""
        if isinstance(error, EtcdRefused) and str(error) != self._complaint:
            self._complaint = str(error)
            logger().warning("etcd refuses a watch; trying on", folder=self._folder, reason=self._complaint)
