"""Dispatches due jobs: pending to queued in PostgreSQL, then an entry in Redis for the workers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping

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
#: The factor by which the pause grows at each look without credit: Redis is asked less while no worker takes jobs.
GROWTH = 1.5
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
        dispatching: Dispatching,
        transport: Transport,
        fleet: Fleet,
        settings: SchedulerSettings,
        *,
        wakeup: asyncio.Event,
        redis: Outage,
    ) -> None:
        self._dispatching = dispatching
        self._transport = transport
        self._fleet = fleet
        self._settings = settings
        self._wakeup = wakeup
        self._redis = redis
        self._creditor = Creditor(seconds=settings.credit_seconds, most=settings.batch)
        self._pause = BRISK
        self._pace = Pace()
        #: When the next full look is due, by the monotonic clock.
        self._look_at = 0.0
        #: The queues that may have due jobs for which there was no credit.
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
                await self._recover()  # the renewal of the term reports the outage
            except TransportUnavailable as error:
                self._redis.down(error)
                await self._recover()
            else:
                await wait_for(self._wakeup, pause)

    async def _round(self, term: Term) -> float:
        """Look for due jobs once; return the seconds until the next look.

        A full look considers every queue of the shard that has workers: after a wake-up, and when `_look_at` has come. Any
        other look considers the backlog only.
        """
        if not self._redis.health.ok:
            # Circuit breaker: no job leaves PostgreSQL's pending while Redis could not take its entry.
            await self._transport.ping()
            self._redis.up()
        full = self._wakeup.is_set() or time.monotonic() >= self._look_at
        self._wakeup.clear()
        slots = {queue: count for queue, count in self._fleet.slots.items() if term.owns(queue)}
        if not slots:
            return self._settings.poll
        depths = await self._transport.depths(slots)
        # `depths` leaves out a queue whose key in Redis has another type: no entry can be added there.
        slots = {queue: count for queue, count in slots.items() if (queue, BANDS[0]) in depths}
        if not slots:
            return self._settings.poll
        credits_ = self._creditor.credits(slots, depths)
        # Every band of a queue has at least the credit of the lowest one.
        least = {credit.queue: credit.jobs for credit in credits_ if credit.band is BANDS[-1]}
        if not full:
            # Those jobs may be of the lowest band: without credit for it, PostgreSQL might have none that may be taken.
            credits_ = [credit for credit in credits_ if credit.queue in self._backlog & least.keys()]
        if not credits_:
            return self._postpone(slots.keys(), full=full)
        batch = await self._dispatch(term, credits_)
        considered = set(slots) if full else {credit.queue for credit in credits_}
        return self._plan_next_look(batch, considered, least, full=full)

    def _postpone(self, queues: Collection[str], *, full: bool) -> float:
        """Return the pause after a look that found no credit to dispatch by. Such pauses grow up to CALM."""
        if full:
            self._backlog |= set(queues)
            self._look_at = time.monotonic() + self._settings.poll
        self._pause = min(CALM, self._pause * GROWTH)
        return min(self._pause, self._until_look())

    def _plan_next_look(
        self, batch: DispatchBatch, considered: set[str], least: Mapping[str, int], *, full: bool
    ) -> float:
        """Update the backlog and `_look_at` after a dispatch for the queues `considered`; return the pause."""
        sent = Counter(dispatch.queue for dispatch in batch.dispatches)
        # Fewer jobs than the credit of the lowest band: no job of the queue was left out for lack of credit.
        self._backlog -= considered
        self._backlog |= {queue for queue in considered if sent[queue] >= least.get(queue, 0)}
        if full:
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
            batch = await self._dispatching.dispatch(term, credits_, self._settings.ageing)
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
        """Pause, also if a wake-up arrives: a server is away. The next look is full."""
        await asyncio.sleep(OUTAGE)
        self._look_at = 0.0
