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
from taskd.coordination.client import EtcdClient, EtcdRefused
from taskd.coordination.notifier import Notifier
from taskd.coordination.reachability import Reachability
from taskd.domain.errors import CoordinatorUnavailable
from taskd.runtime.duty import end, forever
from taskd.runtime.log import logger
from taskd.runtime.waiting import wait_for

T = TypeVar("T")

ATTEMPT = 1.0
AGAIN = 0.1
RETRY = 1.0
#: Seconds without an answer that may always be a stall.
PATIENCE = 3.0
#: How long leaving waits for etcd: once for a key, once for the lease.
PARTING = 0.5


class Rhythm(NamedTuple):
    """How long a lease is and when it is renewed, both in seconds."""

    ttl: float
    renewal: float

    @classmethod
    def of(cls, ttl: float, *, worker: bool) -> Rhythm:
        """A scheduler's lease holds the election, so it is as short as `ttl` says, and renewed four times in it. A worker's is
        half as long again, and renewed two and a half times: there are thousands of them, each renewal is etcd's work, and
        both leave more than half of the lease for trying again."""
        return cls(math.ceil(1.5 * ttl), 0.6 * ttl) if worker else cls(math.ceil(ttl), ttl / 4)

    @property
    def patience(self) -> float:
        """Seconds without an answer that count as an outage: no mere stall of a disk, and never just a renewal not yet due."""
        return max(PATIENCE, self.renewal + self.ttl / 4)


class Lease:
    """One lease. `lost` is set, once and for good, when it ends."""

    def __init__(self, lease_id: int, deadline: float) -> None:
        self.id = lease_id
        self.deadline = deadline
        self.lost = asyncio.Event()

    @property
    def alive(self) -> bool:
        """Whether etcd certainly still has it."""
        return not self.lost.is_set() and time.monotonic() < self.deadline


class EtcdSession:
    """Runs between `open` and `close`; rings the bell at each new lease and each loss."""

    def __init__(self, client: EtcdClient, rhythm: Rhythm, pulse: Reachability, bell: Notifier) -> None:
        self._client = client
        self._rhythm = rhythm
        self._pulse = pulse
        self._bell = bell
        self._lease: Lease | None = None
        self._stale: list[int] = []
        self._count = 0
        self._keys: set[str] = set()
        self._debts: list[_Debt] = []
        self._owing = asyncio.Event()
        self._writes: set[asyncio.Task[Any]] = set()
        self._duties: list[asyncio.Task[None]] = []

    @property
    def lease(self) -> Lease | None:
        """The lease, if there is one that is certainly alive."""
        return self._lease if self._lease is not None and self._lease.alive else None

    async def lease_within(self, seconds: float) -> Lease:
        """The lease, waiting a little for a new one. Raises CoordinatorUnavailable."""
        until = time.monotonic() + seconds
        while (lease := self.lease) is None:
            if time.monotonic() >= until or not self._duties:
                raise CoordinatorUnavailable(self._pulse.health.detail or "there is no session with etcd")
            await self._bell.wait(until - time.monotonic())
        return lease

    def new_key(self, folder: str, lease: Lease) -> str:
        """A key in `folder` that was never used before."""
        self._count += 1
        self._keys.add(key := keys.own(folder, lease.id, self._count))
        return key

    def forget(self, key: str) -> None:
        """Say that a key of ours is gone."""
        self._keys.discard(key)

    def stray(self, key: str) -> bool:
        """Whether a key lives by our lease and nobody wants it or deletes it: a restored etcd has it from before we did."""
        lease = self.lease
        if lease is None or key in self._keys or not keys.belongs(key, lease.id):
            return False
        return all(debt.key != key for debt in self._debts)

    def write(self, call: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Send a write that is never cut short: whether it happened must be known before its key can be deleted.

        Await it through asyncio.shield.
        """
        task = asyncio.create_task(call)
        self._writes.add(task)
        task.add_done_callback(self._written)
        return task

    async def release(self, key: str, after: asyncio.Task[Any] | None = None) -> None:
        """Delete a key of ours, after that write. Waits a moment at most; what cannot be done yet is done later."""
        behind = bool(self._debts) or self._lease is None
        debt = self.owe(key, after)
        if not behind:
            await asyncio.wait({debt.paid}, timeout=PARTING)

    def owe(self, key: str, after: asyncio.Task[Any] | None = None) -> _Debt:
        """Delete a key of ours in the background, however long it takes."""
        self.forget(key)
        debt = _Debt(key, after)
        self._debts.append(debt)
        self._owing.set()
        return debt

    def lose(self, lease: Lease) -> None:
        """Say that etcd does not know this lease any longer."""
        if lease.lost.is_set():
            return
        lease.lost.set()
        self._stale.append(lease.id)
        self._bell.ring()

    async def open(self) -> None:
        """Begin, without waiting for etcd."""
        self._duties = [
            asyncio.create_task(forever("etcd session", self._live)),
            asyncio.create_task(forever("etcd deletions", self._settle)),
        ]

    async def close(self) -> None:
        """Revoke the lease, so that all our keys vanish now. Waits a moment at most."""
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
                logger().info("etcd was not told of the end; its lease runs out", lease=f"{lease.id:016x}")
        for write in list(self._writes):
            await end(write)

    async def _live(self) -> None:
        while True:
            lost, self._lease = self._lease, await self._begin()
            lease = self._lease
            self._keys.clear()
            if lost is not None and self._pulse.health.ok:
                logger().warning("the session with etcd was lost and begun anew", lease=f"{lease.id:016x}")
            self._pulse.answered()
            self._guard(lease)
            self._bell.ring()
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
                self._pulse.unanswered(str(error))
                await asyncio.sleep(max(AGAIN, began + RETRY - time.monotonic()))
            else:
                return Lease(lease_id, sent + ttl)

    async def _revoke(self, lease_id: int) -> None:
        try:
            await self._client.revoke(lease_id, ATTEMPT)
        except EtcdRefused as error:
            logger().warning("a lost lease could not be revoked; it runs out", reason=str(error))

    async def _keep(self, lease: Lease) -> None:
        """Renew until the lease is lost."""
        attempt = min(ATTEMPT, self._rhythm.ttl / 5)
        pause = self._rhythm.renewal
        while not await wait_for(lease.lost, pause):
            sent = time.monotonic()
            try:
                ttl = await self._client.keep_alive(lease.id, attempt)
            except CoordinatorUnavailable as error:
                self._pulse.unanswered(str(error))
                pause = AGAIN
                continue
            self._pulse.answered()
            if ttl <= 0 or not lease.alive:
                return
            lease.deadline = sent + ttl
            pause = max(AGAIN, sent + self._rhythm.renewal - time.monotonic())

    def _guard(self, lease: Lease) -> None:
        """A timer of its own, so that a renewal that hangs cannot hide the end of the lease."""
        left = lease.deadline - time.monotonic()
        if lease.lost.is_set():
            return
        if left <= 0:
            self.lose(lease)
        else:
            asyncio.get_running_loop().call_later(left, self._guard, lease)

    async def _settle(self) -> None:
        while True:
            await self._owing.wait()
            self._owing.clear()
            while self._debts:
                debt = self._debts[0]
                if debt.after is not None:
                    await asyncio.wait({debt.after})
                await self._delete(debt.key)
                debt.paid.set_result(None)
                del self._debts[0]

    async def _delete(self, key: str) -> None:
        while True:
            try:
                return await self._client.delete(key)
            except EtcdRefused as error:
                logger().warning("a key could not be deleted; trying on", key=key, reason=str(error))
            except CoordinatorUnavailable as error:
                self._pulse.unanswered(str(error))
            await asyncio.sleep(RETRY)

    def _written(self, task: asyncio.Task[Any]) -> None:
        self._writes.discard(task)
        if not task.cancelled():
            task.exception()  # whoever awaited it has seen it; if nobody did, the key is deleted anyway


class _Debt:
    """A key that has to be deleted; `paid` is done when it is."""

    def __init__(self, key: str, after: asyncio.Task[Any] | None) -> None:
        self.key = key
        self.after = after
        self.paid: asyncio.Future[None] = asyncio.get_running_loop().create_future()
