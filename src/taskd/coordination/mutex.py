"""Named locks. A candidate puts a key into the lock's folder and waits until the next older key is gone.

Guarantees: while one history of etcd lasts, there is one holder at a time, first come, first served, and each candidate waits
for its predecessor only. `held` turns False before etcd can give the lock to another candidate, as far as clocks run at about
the same rate. Fences rise with every holder of a name, also over a wipe of etcd's data: they are create_revisions counted
from the Unix time (in microseconds) at which the data began, and revisions grow more slowly than time does.
Limits: after such a wipe a former holder may rely on its lock for up to ttl/4 more, which is what the fence is for. If old
data is restored, fences start from the old ones again.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing, asynccontextmanager
from typing import Any

import msgspec

from taskd.coordination import values
from taskd.coordination.client import EtcdClient
from taskd.coordination.keys import EtcdKeys
from taskd.coordination.records import HistoryGone, KeyValue, LeaseGone
from taskd.coordination.session import EtcdSession, Lease
from taskd.domain.errors import CoordinatorUnavailable
from taskd.domain.explain.situation import Holder
from taskd.runtime.discards import discard, shown
from taskd.runtime.duty import end

#: Seconds that a process that just began, or lost its session, may take to get a lease.
SESSION_WAIT = 2.0
AGAIN = 0.2


class LockHold:
    """Implements `taskd.seams.Lock`: a held lock."""

    def __init__(self, lease: Lease, fence: int) -> None:
        self.fence = fence
        self.released = False
        self._lease = lease

    @property
    def held(self) -> bool:
        return not self.released and self._lease.alive


class Mutexes:
    """All named locks."""

    def __init__(self, client: EtcdClient, session: EtcdSession, keys: EtcdKeys) -> None:
        self._client = client
        self._session = session
        self._keys = keys

    @asynccontextmanager
    async def lock(self, name: str, wait: float | None = None, holder: Holder | None = None) -> AsyncIterator[LockHold]:
        """Hold the lock. Raises CoordinatorUnavailable, TimeoutError after `wait` seconds, ValueError for an empty name."""
        if not name:
            raise ValueError("a lock needs a name")
        async with asyncio.timeout(wait):
            lease = await self._session.lease_within(SESSION_WAIT)
            own, fence = await self._queue_up(self._keys.lock(name), lease, holder or Holder())
        hold = LockHold(lease, fence)
        try:
            yield hold
        finally:
            hold.released = True
            if not lease.lost.is_set():
                await self._session.release(own.key)

    async def holder(self, name: str) -> Holder | None:
        """Return the holder of the lock as its key describes it, or None. Raises CoordinatorUnavailable."""
        oldest = await self._client.oldest(self._keys.lock(name))
        if oldest is None:
            return None
        holder = values.holder(oldest.value)
        if holder is None:
            discard("etcd", "a key that is no holder of a lock", example=shown(oldest.key))
        return holder or Holder()

    async def _fence_start(self) -> int:
        """Return the start of fences. A malformed value is replaced by the present time, which is later than every start."""
        while True:
            present = str(time.time_ns() // 1000).encode()
            standing = await self._client.create(self._keys.fence, present)
            start = values.fence(standing.value)
            if start is not None:
                return start
            discard("etcd", "a value that is no start of fences", self._keys.fence)
            await self._client.replace(standing, present)

    async def _queue_up(self, folder: str, lease: Lease, holder: Holder) -> tuple[KeyValue, int]:
        key = self._session.new_key(folder, lease)
        value = msgspec.json.encode(msgspec.structs.replace(holder, host=socket.gethostname(), pid=os.getpid()))
        writing: asyncio.Task[KeyValue] | None = None
        try:
            start = await self._fence_start()
            writing = self._session.write(self._client.create(key, value, lease.id))
            own = await asyncio.shield(writing)
            await _unless_lost(lease, self._turn(folder, own))
        except LeaseGone:
            self._session.lose(lease)
            raise CoordinatorUnavailable("the session with etcd was lost") from None
        except BaseException:
            if writing is not None:
                self._session.delete_later(key, writing)
            raise
        else:
            return own, start + own.create_revision

    async def _turn(self, folder: str, own: KeyValue) -> None:
        """Wait until no older key is left. Raises LeaseGone if the own key is gone."""
        while True:
            try:
                revision, ahead, standing = await self._client.queue(folder, own)
                if ahead is None:
                    break
                await self._gone(ahead.key, revision + 1)
            except HistoryGone:
                continue
            except CoordinatorUnavailable:
                await asyncio.sleep(AGAIN)  # until the lease ends, if etcd stays away
        if not standing:
            raise LeaseGone("the key in the queue is gone")

    async def _gone(self, key: str, revision: int) -> None:
        async with aclosing(self._client.watch(key, revision, prefix=False)) as batches:
            async for events in batches:
                if any(event.deleted for event in events):
                    return


async def _unless_lost(lease: Lease, waiting: Coroutine[Any, Any, None]) -> None:
    """Wait for `waiting` while the lease lives. Raises LeaseGone when it ends first."""
    turn = asyncio.create_task(waiting)
    lost = asyncio.create_task(lease.lost.wait())
    try:
        await asyncio.wait({turn, lost}, return_when=asyncio.FIRST_COMPLETED)
        if turn.done():
            await turn
        if not lease.alive:
            raise LeaseGone("the lease ended")
    finally:
        await end(turn)
        await end(lost)
