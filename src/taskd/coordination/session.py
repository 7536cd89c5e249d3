"""A session: one lease in etcd, kept alive, and replaced by a new one whenever it is lost.

Guarantees: a `Lease` is alive only while etcd certainly has it. Its deadline counts, by the local monotonic clock, from the
moment the renewal was *sent*, so etcd's own count always ends later. A lease that was lost once never lives again, even if
etcd would still renew it: it is revoked as soon as etcd answers, and a new one begins.

The session renews after a part of the ttl (`Rhythm`), gives an attempt at most min(1 s, ttl/5) and tries again 0.1 s later, on
the next endpoint: with longer waits, the death of etcd's leader costs the lease.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Coroutine
from typing import Any, NamedTuple, TypeVar

from taskd.coordination import keys
from taskd.coordination.client import EtcdClient
from taskd.coordination.notifier import Notifier
from taskd.coordination.reachability import Reachability
from taskd.coordination.records import EtcdRefused
from taskd.domain.errors import CoordinatorUnavailable
from taskd.runtime.duty import end, forever
from taskd.runtime.log import logger
from taskd.runtime.waiting import wait_for

T = TypeVar("T")

ATTEMPT = 1.0
AGAIN = 0.1
RETRY = 1.0
#: Seconds without an answer that never count as an outage.
PATIENCE = 3.0
#: Seconds for which leaving waits for etcd: once for a key, once for the lease.
PARTING = 0.5


class Rhythm(NamedTuple):
    """The length of a lease and the time between renewals, in seconds."""

    ttl: float
    renewal: float

    @classmethod
    def of(cls, ttl: float, *, worker: bool) -> Rhythm:
        """Return the rhythm for a setting `ttl`.

        A scheduler's lease holds elections, so it lasts `ttl` seconds and is renewed four times in them. A worker's lasts half
        as long again and is renewed two and a half times, since thousands of workers make etcd work. Both leave more than half
        of the lease for retries.
        """
        return cls(math.ceil(1.5 * ttl), 0.6 * ttl) if worker else cls(math.ceil(ttl), ttl / 4)

    @property
    def patience(self) -> float:
        """Seconds without an answer that count as an outage: longer than a stall of a disk, and than the wait for a renewal."""
        return max(PATIENCE, self.renewal + self.ttl / 4)


class Lease:
    """One lease. `lost` is set, once and for good, when it ends."""

    def __init__(self, lease_id: int, deadline: float) -> None:
        self.id = lease_id
        self.deadline = deadline
        self.lost = asyncio.Event()

    @property
    def alive(self) -> bool:
        """True while etcd certainly has the lease."""
        return not self.lost.is_set() and time.monotonic() < self.deadline


class EtcdSession:
    """Runs between `open` and `close`. Notifies at each new lease and each loss."""

    def __init__(self, client: EtcdClient, rhythm: Rhythm, reachability: Reachability, notifier: Notifier) -> None:
        self._client = client
        self._rhythm = rhythm
        self._reachability = reachability
        self._notifier = notifier
        self._lease: Lease | None = None
        self._stale: list[int] = []
        self._count = 0
        self._keys: set[str] = set()
        self._deletions: list[_Deletion] = []
        self._deletion_wanted = asyncio.Event()
        self._writes: set[asyncio.Task[Any]] = set()
        self._duties: list[asyncio.Task[None]] = []

    @property
    def lease(self) -> Lease | None:
        """The lease, if there is one that is certainly alive."""
        return self._lease if self._lease is not None and self._lease.alive else None

    async def lease_within(self, seconds: float) -> Lease:
        """Return the lease; wait for a new one for at most `seconds`. Raises CoordinatorUnavailable."""
        until = time.monotonic() + seconds
        while (lease := self.lease) is None:
            if time.monotonic() >= until or not self._duties:
                raise CoordinatorUnavailable(self._reachability.health.detail or "there is no session with etcd")
            await self._notifier.wait(until - time.monotonic())
        return lease

    def new_key(self, folder: str, lease: Lease) -> str:
        """Return a key in `folder` that was never used before."""
        self._count += 1
        self._keys.add(key := keys.own(folder, lease.id, self._count))
        return key

    def forget(self, key: str) -> None:
        """Forget a key of this session: it is gone."""
        self._keys.discard(key)

    def stray(self, key: str) -> bool:
        """Return True for a key under this lease that the session does not keep or delete: it came back with restored data."""
        lease = self.lease
        if lease is None or key in self._keys or not keys.belongs(key, lease.id):
            return False
        return all(deletion.key != key for deletion in self._deletions)

    def write(self, call: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a write that is never cancelled: its outcome must be known before its key can be deleted.

        Await it through asyncio.shield.
        """
        task = asyncio.create_task(call)
        self._writes.add(task)
        task.add_done_callback(self._written)
        return task

    async def release(self, key: str, after: asyncio.Task[Any] | None = None) -> None:
        """Delete a key of this session after that write. Waits a moment at most; otherwise the deletion follows later."""
        behind = bool(self._deletions) or self._lease is None
        deletion = self.delete_later(key, after)
        if not behind:
            await asyncio.wait({deletion.done}, timeout=PARTING)

    def delete_later(self, key: str, after: asyncio.Task[Any] | None = None) -> _Deletion:
        """Delete a key of this session in the background, however long it takes."""
        self.forget(key)
        deletion = _Deletion(key, after)
        self._deletions.append(deletion)
        self._deletion_wanted.set()
        return deletion

    def lose(self, lease: Lease) -> None:
        """Mark a lease as lost: etcd does not know it any longer."""
        if lease.lost.is_set():
            return
        lease.lost.set()
        self._stale.append(lease.id)
        self._notifier.notify()

    async def open(self) -> None:
        """Begin in the background."""
        self._duties = [
            asyncio.create_task(forever("etcd session", self._live)),
            asyncio.create_task(forever("etcd deletions", self._delete_keys)),
        ]

    async def close(self) -> None:
        """Revoke the lease, so that all keys of the session vanish now. Waits a moment at most."""
        for duty in self._duties:
            await end(duty)
        self._duties = []
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.lost.set()
            try:
                async with asyncio.timeout(2 * PARTING):
                    await self._client.revoke(lease.id, PARTING)
            except (CoordinatorUnavailable, TimeoutError):
                logger().info("could not revoke the lease in etcd: it expires", lease=f"{lease.id:016x}")
        for write in list(self._writes):
            await end(write)

    async def _live(self) -> None:
        while True:
            lost, self._lease = self._lease, await self._begin()
            lease = self._lease
            self._keys.clear()
            if lost is not None and self._reachability.health.ok:
                logger().warning("the session with etcd was lost; a new one began", lease=f"{lease.id:016x}")
            self._reachability.answered()
            self._guard(lease)
            self._notifier.notify()
            await self._keep(lease)
            self.lose(lease)

    async def _begin(self) -> Lease:
        while True:
            began = time.monotonic()
            try:
                while self._stale:
                    await self._revoke(self._stale[0])
                    del self._stale[0]
                sent = time.monotonic()
                lease_id, ttl = await self._client.grant(int(self._rhythm.ttl), ATTEMPT)
            except CoordinatorUnavailable as error:
                self._reachability.unanswered(str(error))
                await asyncio.sleep(max(AGAIN, began + RETRY - time.monotonic()))
            else:
                return Lease(lease_id, sent + ttl)

    async def _revoke(self, lease_id: int) -> None:
        try:
            await self._client.revoke(lease_id, ATTEMPT)
        except EtcdRefused as error:
            logger().warning("could not revoke a lost lease: it expires", reason=str(error))

    async def _keep(self, lease: Lease) -> None:
        """Renew until the lease is lost."""
        attempt = min(ATTEMPT, self._rhythm.ttl / 5)
        pause = self._rhythm.renewal
        while not await wait_for(lease.lost, pause):
            sent = time.monotonic()
            try:
                ttl = await self._client.keep_alive(lease.id, attempt)
            except CoordinatorUnavailable as error:
                self._reachability.unanswered(str(error))
                pause = AGAIN
                continue
            self._reachability.answered()
            if ttl <= 0 or not lease.alive:
                return
            lease.deadline = sent + ttl
            pause = max(AGAIN, sent + self._rhythm.renewal - time.monotonic())

    def _guard(self, lease: Lease) -> None:
        """Watch the lease by a timer of its own, so that a renewal that hangs cannot hide its end."""
        left = lease.deadline - time.monotonic()
        if lease.lost.is_set():
            return
        if left <= 0:
            self.lose(lease)
        else:
            asyncio.get_running_loop().call_later(left, self._guard, lease)

    async def _delete_keys(self) -> None:
        while True:
            await self._deletion_wanted.wait()
            self._deletion_wanted.clear()
            while self._deletions:
                deletion = self._deletions[0]
                if deletion.after is not None:
                    await asyncio.wait({deletion.after})
                await self._delete(deletion.key)
                deletion.done.set_result(None)
                del self._deletions[0]

    async def _delete(self, key: str) -> None:
        while True:
            try:
                return await self._client.delete(key)
            except EtcdRefused as error:
                logger().warning("could not delete a key; retrying", key=key, reason=str(error))
            except CoordinatorUnavailable as error:
                self._reachability.unanswered(str(error))
            await asyncio.sleep(RETRY)

    def _written(self, task: asyncio.Task[Any]) -> None:
        self._writes.discard(task)
        if not task.cancelled():
            task.exception()  # its caller has seen the error; without a caller, the key is deleted anyway


class _Deletion:
    """A key that has to be deleted; `done` is set when that is done."""

    def __init__(self, key: str, after: asyncio.Task[Any] | None) -> None:
        self.key = key
        self.after = after
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
