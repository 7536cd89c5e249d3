"""Dispatches due jobs: pending to queued in PostgreSQL, then an entry in Redis for the workers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

from taskd.domain.band import BANDS, Credit
from taskd.domain.errors import StoreUnavailable, TransportUnavailable
from taskd.domain.fencing import Term
from taskd.runtime import meters
from taskd.runtime.failpoints import passed
from taskd.runtime.outage import Outage
from taskd.runtime.pace import Pace
from taskd.runtime.waiting import wait_for
from taskd.scheduler.credit import Creditor
from taskd.scheduler.fleet import Fleet
from taskd.seams import DispatchBatch, Dispatching, Transport
from taskd.settings import SchedulerSettings

#: Seconds between looks while there is more work than credit: the shortest, and the longest if nothing moves.
BRISK, CALM = 0.005, 0.1
#: Seconds between tries while a server is away.
OUTAGE = 0.25


class Dispatcher:
    """Dispatches the jobs of one shard's queues.

    1. Read the streams' depths from Redis. 2. Move as many of the best due jobs as there is credit for. 3. Add their entries
    to Redis. 4. Wait for a wake-up, or until the next look is due.

    `ringing` is held from the commit until the entries are added. The re-offerer takes it before it looks for lost entries.
    """

    def __init__(
        self,
        due: Dispatching,
        transport: Transport,
        fleet: Fleet,
        settings: SchedulerSettings,
        *,
        wakeup: asyncio.Event,
        redis: Outage,
    ) -> None:
        self._due = due
        self._transport = transport
        self._fleet = fleet
        self._settings = settings
        self._wakeup = wakeup
        self._redis = redis
        self._creditor = Creditor(seconds=settings.credit_seconds, most=settings.batch)
        self._pause = BRISK
        self._pace = Pace()
        self._look_at = 0.0
        self._backlog: set[str] = set()
        self.ringing = asyncio.Lock()
        self.dispatched = 0
        self.on_lost_ring: Callable[[], None] = lambda: None

    async def run(self, term: Term) -> None:
        """Dispatch until cancelled. Raises NotLeader when the term is over."""
        while True:
            await self._pace.turn()
            try:
                pause = await self._round(term)
            except StoreUnavailable:
                await self._recover()  # the renewal meets the same outage and reports it
            except TransportUnavailable as error:
                self._redis.down(error)
                await self._recover()
            else:
                await wait_for(self._wakeup, pause)

    async def _round(self, term: Term) -> float:
        """Look once; return the seconds until the next look."""
        if not self._redis.health.ok:
            # Circuit breaker: no job leaves PostgreSQL's pending while Redis could not take its entry.
            await self._transport.ping()
            self._redis.up()
        woken = self._wakeup.is_set() or time.monotonic() >= self._look_at
        self._wakeup.clear()
        slots = {queue: count for queue, count in self._fleet.slots.items() if term.owns(queue)}
        if not slots:
            return self._settings.poll
        depths = await self._transport.depths(slots)
        slots = {queue: count for queue, count in slots.items() if (queue, BANDS[0]) in depths}
        if not slots:
            return self._settings.poll
        credits_ = self._creditor.credits(slots, depths)
        ordinary = {credit.queue: credit.jobs for credit in credits_ if credit.band is BANDS[-1]}
        useful = credits_ if woken else [c for c in credits_ if c.queue in self._backlog & ordinary.keys()]
        if not useful:
            # None of the wanted queues has credit. Queues that were woken wait with the backlog until they have.
            if woken:
                self._backlog |= set(slots)
                self._look_at = time.monotonic() + self._settings.poll
            self._pause = min(CALM, self._pause * 1.5)
            return min(self._pause, self._until_look())
        batch = await self._dispatch(term, useful)
        sent = Counter(d.queue for d in batch.dispatches)
        # A queue whose ordinary credit is spent may have more due jobs; any other queue has none left.
        asked = {credit.queue for credit in useful} if not woken else set(slots)
        self._backlog -= asked
        self._backlog |= {queue for queue in asked if sent[queue] >= ordinary.get(queue, 0)}
        if woken:
            self._look_at = time.monotonic() + self._settings.poll
        if batch.next_due is not None:
            self._look_at = min(self._look_at, time.monotonic() + max(0.0, batch.next_due))
        self._pause = BRISK
        return min(BRISK, self._until_look()) if self._backlog else self._until_look()

    def _until_look(self) -> float:
        return max(0.0, self._look_at - time.monotonic())

    async def _dispatch(self, term: Term, credits_: list[Credit]) -> DispatchBatch:
        async with self.ringing:
            began = time.perf_counter()
            batch = await self._due.dispatch(term, credits_, self._settings.ageing)
            if batch.dispatches:
                await passed("dispatch.committed")
                meters.DISPATCHED.inc(len(batch.dispatches))
                self.dispatched += len(batch.dispatches)
                for queue, jobs in Counter(d.queue for d in batch.dispatches).items():
                    self._creditor.announced(queue, jobs)
                try:
                    await self._transport.ring(batch.dispatches)
                    meters.DISPATCH.observe(time.perf_counter() - began)
                    await passed("ring.sent")
                except TransportUnavailable:
                    self.on_lost_ring()
                    raise
        return batch

    async def _recover(self) -> None:
        """Pause without heeding wake-ups, since a server is away; the next round looks at all queues."""
        await asyncio.sleep(OUTAGE)
        self._look_at = 0.0
