"""Rings lost doorbells again: jobs that are queued in PostgreSQL and that no worker will ever be given by Redis."""

from __future__ import annotations

import asyncio

from taskd.domain.claim import Term
from taskd.domain.errors import StoreUnavailable, TransportUnavailable
from taskd.runtime import meters
from taskd.runtime.failpoints import passed
from taskd.runtime.log import logger
from taskd.runtime.outage import Outage
from taskd.seams import Dispatching, Transport

#: Seconds between looks at Redis's memory.
EVERY = 1.0
BATCH = 1000


class Reofferer:
    """For the queues of one shard:

    1. Notice a wiped Redis. 2. Find what was queued long ago and never claimed. 3. Move what is lost back to pending.

    When a term begins, and after a wipe or a failed ring, everything queued is suspect at once; otherwise only what is older
    than `after` seconds.
    """

    def __init__(
        self,
        due: Dispatching,
        transport: Transport,
        *,
        after: float,
        ringing: asyncio.Lock,
        bell: asyncio.Event,
        redis: Outage,
    ) -> None:
        self._due = due
        self._transport = transport
        self._after = after
        self._ringing = ringing
        self._bell = bell
        self._redis = redis
        self._memory = ""
        self._suspect = False
        self.reoffered = 0

    def suspect(self) -> None:
        """A ring may have been lost."""
        self._suspect = True

    async def run(self, term: Term) -> None:
        """Look after lost doorbells until cancelled. Raises NotLeader when the term is over."""
        due_in = 0.0
        self._suspect = True  # whoever led before us may have ended between its commit and its ring
        while True:
            try:
                memory, before = await self._transport.incarnation(), self._memory
                self._redis.up()
                self._memory = memory
                self._suspect |= memory != before
                due_in -= EVERY
                if self._suspect or due_in <= 0:
                    await self._look(term)
                    due_in = self._after * 0.5
            except TransportUnavailable as error:
                self._redis.down(error)
                self._suspect = True
            except StoreUnavailable:
                self._suspect = True  # the renewal meets the same outage and tells of it
            await asyncio.sleep(EVERY)

    async def _look(self, term: Term) -> None:
        suspect, self._suspect = self._suspect, False
        waiting = 0  # those that are in Redis: of a paused queue there may be many, for long
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
                self._bell.set()
            waiting += len(unclaimed) - moved
            if len(unclaimed) < BATCH:
                return
