"""Takes work from Redis, never more than there are free slots."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from random import random

from taskd.domain.errors import SessionLost, StoreUnavailable, TransportUnavailable
from taskd.domain.fencing import Delivery, Session, Suspect
from taskd.runtime.config import Config
from taskd.runtime.failpoints import passed
from taskd.runtime.outage import Outage
from taskd.runtime.pace import Pace
from taskd.runtime.waiting import either, first
from taskd.seams import Transport
from taskd.settings import WorkerSettings
from taskd.worker.attempts import Attempts
from taskd.worker.isolation import Isolation
from taskd.worker.pool.pool import ExecutorPool

#: Seconds that one read waits for work.
BLOCK = 1.0
#: Seconds between tries while a server is away.
OUTAGE = 0.25


class Fetcher:
    """1. Wait for a free slot. 2. Now and then adopt what a dead worker left undecided. 3. Read. 4. Have it claimed.
    5. Leave jobs that only run alone to Solitude, and fetch nothing meanwhile."""

    def __init__(
        self,
        transport: Transport,
        attempts: Attempts,
        executors: ExecutorPool,
        settings: WorkerSettings,
        *,
        live: Config,
        redis: Outage,
    ) -> None:
        self._transport = transport
        self._attempts = attempts
        self._executors = executors
        self._idle = settings.claim_idle
        self._live = live
        self._redis = redis
        self._solitude = Isolation(
            transport, attempts, executors, claim_idle=settings.claim_idle, live=live, redis=redis
        )
        self._pace = Pace()
        self._adopt_at = time.monotonic() + settings.claim_idle
        #: The entries of the batch before are being forgotten.
        self._deciding: asyncio.Task[None] | None = None

    async def run(self, session: Session, stop: asyncio.Event, allowed: asyncio.Event) -> None:
        """Fetch until `stop`, while `allowed` (the lease is good). Raises SessionLost."""
        try:
            await self._fetch(session, stop, allowed)
        finally:
            await self._forgotten()

    async def _fetch(self, session: Session, stop: asyncio.Event, allowed: asyncio.Event) -> None:
        while not stop.is_set():
            await either(allowed, stop)
            await self._room(stop)
            await self._pace.turn()
            if stop.is_set() or not allowed.is_set():
                continue
            try:
                deliveries = await self._read(session)
                deliveries = await self._fitting(session, deliveries)
            except TransportUnavailable as error:
                self._redis.down(error)
                await asyncio.sleep(OUTAGE)
                continue
            if deliveries:
                await self._accept(session, deliveries, stop, allowed)

    async def _read(self, session: Session) -> list[Delivery]:
        slots, queues = self._executors.free, self._queues(session)
        if slots <= 0:
            return []
        if not queues:
            await asyncio.sleep(OUTAGE)  # all of ours are paused, or we are to be quiet
            return []
        adopted: list[Delivery] = []
        if time.monotonic() >= self._adopt_at:
            self._adopt_at = time.monotonic() + self._idle / 3
            adopted = await self._transport.adopt(queues, slots, self._idle)
        found = adopted or await self._transport.fetch(queues, slots, BLOCK)
        self._redis.up()
        return found

    async def _fitting(self, session: Session, deliveries: list[Delivery]) -> list[Delivery]:
        """Those that there is still room for; the others are given back. An executor may have died while we waited for work,
        or somebody wants us to be quiet."""
        room = 0 if self._live.now.quiet(session.worker_id) else self._executors.free
        if len(deliveries) > room:
            await self._transport.give_back(deliveries[room:])
        return deliveries[:room]

    def _queues(self, session: Session) -> list[str]:
        """Our queues that are not paused, in the order to look through: a new one each time, heavier ones more often first.

        Whoever is looked at first gets all free slots, so the share of a queue with a backlog goes by its weight (the keys are
        those of Efraimidis and Spirakis, 2006).
        """
        version = self._live.now
        if version.quiet(session.worker_id):
            return []
        queues = [queue for queue in session.queues if not version.paused(queue)]
        return sorted(queues, key=lambda queue: random() ** (1 / version.weight(queue)), reverse=True)  # noqa: S311

    async def _accept(
        self, session: Session, deliveries: Sequence[Delivery], stop: asyncio.Event, allowed: asyncio.Event
    ) -> None:
        """Claim, as often as PostgreSQL makes it necessary: an entry is never forgotten on an error.

        After an outage the heartbeat comes first: what is claimed under a lease that ran out could not begin.
        """
        again, suspects = False, list[Suspect]()
        while True:
            try:
                decided = not stop.is_set()
                if decided:
                    suspects = await self._attempts.accept(session, deliveries, again=again)
                break
            except StoreUnavailable:
                again = True  # the renewal meets the same outage and tells of it
                await asyncio.sleep(OUTAGE)
                await either(allowed, stop)
            except SessionLost:
                await self._forget(deliveries, decided=False)
                raise
        # The next batch need not wait for this; the one after it does.
        await self._forgotten()
        left = {suspect.delivery for suspect in suspects}
        others = [delivery for delivery in deliveries if delivery not in left] if left else deliveries
        self._deciding = asyncio.create_task(self._forget(others, decided=decided))
        if suspects:
            await self._solitude.take(session, suspects, stop, allowed)

    async def _forgotten(self) -> None:
        """Wait for the entries of the batch before. If this is cancelled so is that, and it is nothing to the next session."""
        deciding, self._deciding = self._deciding, None
        if deciding is not None:
            await deciding

    async def _forget(self, deliveries: Sequence[Delivery], *, decided: bool) -> None:
        try:
            if decided:
                await passed("decide.before")
                await self._transport.decided(deliveries)
                await passed("decide.done")
            else:
                await self._transport.give_back(deliveries)
        except TransportUnavailable as error:
            # The entries stay pending; whoever adopts them later finds them refused.
            self._redis.down(error)

    async def _room(self, stop: asyncio.Event) -> None:
        """Wait until there is a free slot and the results of earlier attempts are not piling up."""
        await self._attempts.caught_up()
        if self._executors.free > 0:
            return
        await first(self._executors.available(), stop.wait())
