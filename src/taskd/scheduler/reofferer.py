"""Re-offers lost jobs: those that are queued in PostgreSQL but have no entry in Redis, so that no worker will get them."""

from __future__ import annotations

import asyncio

from taskd.domain.errors import StoreUnavailable, TransportUnavailable
from taskd.domain.fencing import Term
from taskd.runtime import meters
from taskd.runtime.failpoints import passed
from taskd.runtime.log import logger
from taskd.runtime.outage import Outage
from taskd.seams import Dispatching, Transport

#: Seconds between looks at Redis's memory.
EVERY = 1.0
BATCH = 1000


class Reofferer:
    """Re-offers the lost jobs of one shard's queues.

    1. Notice a wiped Redis. 2. Find jobs that were queued long ago and not claimed. 3. Move those without an entry to pending.

    When a term begins, and after a wipe or a failed write of entries, every queued job is checked at once; otherwise only
    jobs that were queued more than `after` seconds ago.
    """

    def __init__(
        self,
        due: Dispatching,
        transport: Transport,
        *,
        after: float,
        ringing: asyncio.Lock,
        wakeup: asyncio.Event,
        redis: Outage,
    ) -> None:
        self._due = due
        self._transport = transport
        self._after = after
        self._ringing = ringing
        self._wakeup = wakeup
        self._redis = redis
        self._incarnation = ""
        self._suspect = False
        self.reoffered = 0

    def suspect(self) -> None:
        """Check all queued jobs at the next look: entries may have been lost."""
        self._suspect = True

    async def run(self, term: Term) -> None:
        """Re-offer lost jobs until cancelled. Raises NotLeader when the term is over."""
        due_in = 0.0
        self._suspect = True  # the previous leader may have ended between its commit and its entries
        while True:
            try:
                incarnation, before = await self._transport.incarnation(), self._incarnation
                self._redis.up()
                self._incarnation = incarnation
                self._suspect |= incarnation != before
                due_in -= EVERY
                if self._suspect or due_in <= 0:
                    await self._look(term)
                    due_in = self._after * 0.5
            except TransportUnavailable as error:
                self._redis.down(error)
                self._suspect = True
            except StoreUnavailable:
                self._suspect = True  # the renewal meets the same outage and reports it
            await asyncio.sleep(EVERY)

    async def _look(self, term: Term) -> None:
        suspect, self._suspect = self._suspect, False
        waiting = 0  # jobs that have their entry: a paused queue may have many, for long
        while True:
            async with self._ringing:
                unclaimed = await self._due.unclaimed(term, 0.0 if suspect else self._after, BATCH, waiting)
                lost = await self._transport.missing(unclaimed) if unclaimed else []
                moved = await self._due.reoffer(term, lost) if lost else 0
            if moved:
                await passed("reoffer.moved")
                self.reoffered += moved
                meters.REOFFERED.inc(moved)
                logger().warning("rang lost doorbells again", jobs=moved)
                self._wakeup.set()
            waiting += len(unclaimed) - moved
            if len(unclaimed) < BATCH:
                return
