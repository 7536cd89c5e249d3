"""Takes deliveries from Redis, never more than there are free slots."""

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
    """1. Waits for a free slot. 2. Now and then adopts deliveries that a dead worker left undecided. 3. Reads. 4. Has the
    deliveries claimed. 5. Leaves jobs that only run alone to Isolation, and fetches nothing meanwhile."""

    def __init__(
        self,
        transport: Transport,
        attempts: Attempts,
        executors: ExecutorPool,
        settings: WorkerSettings,
        *,
        config: Config,
        redis: Outage,
    ) -> None:
        self._transport = transport
        self._attempts = attempts
        self._executors = executors
        self._idle = settings.claim_idle
        self._config = config
        self._redis = redis
        self._isolation = Isolation(
            transport, attempts, executors, claim_idle=settings.claim_idle, config=config, redis=redis
        )
        self._pace = Pace()
        self._adopt_at = time.monotonic() + settings.claim_idle
        #: Removes the entries of the batch before.
        self._removing: asyncio.Task[None] | None = None

    async def run(self, session: Session, stop: asyncio.Event, allowed: asyncio.Event) -> None:
        """Fetch until `stop`, while `allowed` (the lease is good). Raises SessionLost."""
        try:
            await self._fetch(session, stop, allowed)
        finally:
            await self._removed()

    async def _fetch(self, session: Session, stop: asyncio.Event, allowed: asyncio.Event) -> None:
        while not stop.is_set():
            await either(allowed, stop)
            await self._wait_for_slot(stop)
            await self._pace.turn()
            if stop.is_set() or not allowed.is_set():
                continue
            try:
                deliveries = await self._read(session)
                deliveries = await self._give_back_excess(session, deliveries)
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
            await asyncio.sleep(OUTAGE)  # all queues are paused, or this worker is to be quiet
            return []
        adopted: list[Delivery] = []
        if time.monotonic() >= self._adopt_at:
            self._adopt_at = time.monotonic() + self._idle / 3
            adopted = await self._transport.adopt(queues, slots, self._idle)
        deliveries = adopted or await self._transport.fetch(queues, slots, BLOCK)
        self._redis.up()
        return deliveries

    async def _give_back_excess(self, session: Session, deliveries: list[Delivery]) -> list[Delivery]:
        """Return the deliveries for which there is still room, and give back the others.

        While the read waited, an executor may have died, or this worker may have been set to quiet.
        """
        room = 0 if self._config.now.quiet(session.worker_id) else self._executors.free
        if len(deliveries) > room:
            await self._transport.give_back(deliveries[room:])
        return deliveries[:room]

    def _queues(self, session: Session) -> list[str]:
        """Return the queues that are not paused, in the order to read: a new one each time, heavier ones more often first.

        The first queue gets all free slots, so the share of a queue with a backlog goes by its weight (the keys are those of
        Efraimidis and Spirakis, 2006).
        """
        version = self._config.now
        if version.quiet(session.worker_id):
            return []
        queues = [queue for queue in session.queues if not version.paused(queue)]
        return sorted(queues, key=lambda queue: random() ** (1 / version.weight(queue)), reverse=True)  # noqa: S311

    async def _accept(
        self, session: Session, deliveries: Sequence[Delivery], stop: asyncio.Event, allowed: asyncio.Event
    ) -> None:
        """Claim, as often as PostgreSQL makes it necessary: an entry is never removed on an error.

        After an outage the heartbeat comes first: attempts that are claimed under a lease that ran out could not begin.
        """
        again, suspects = False, list[Suspect]()
        while True:
            try:
                decided = not stop.is_set()
                if decided:
                    suspects = await self._attempts.accept(session, deliveries, again=again)
                break
            except StoreUnavailable:
                again = True  # the renewer meets the same outage and logs it
                await asyncio.sleep(OUTAGE)
                await either(allowed, stop)
            except SessionLost:
                await self._remove(deliveries, decided=False)
                raise
        # The next batch need not wait for the removal; the one after it does.
        await self._removed()
        left = {suspect.delivery for suspect in suspects}
        others = [delivery for delivery in deliveries if delivery not in left] if left else deliveries
        self._removing = asyncio.create_task(self._remove(others, decided=decided))
        if suspects:
            await self._isolation.take(session, suspects, stop, allowed)

    async def _removed(self) -> None:
        """Wait until the entries of the batch before are removed. A cancellation of this cancels the removal too."""
        removing, self._removing = self._removing, None
        if removing is not None:
            await removing

    async def _remove(self, deliveries: Sequence[Delivery], *, decided: bool) -> None:
        try:
            if decided:
                await passed("decide.before")
                await self._transport.decided(deliveries)
                await passed("decide.done")
            else:
                await self._transport.give_back(deliveries)
        except TransportUnavailable as error:
            # The entries stay pending; a worker that adopts them later finds them refused.
            self._redis.down(error)

    async def _wait_for_slot(self, stop: asyncio.Event) -> None:
        """Wait until there is a free slot, and few enough ends wait for PostgreSQL."""
        await self._attempts.caught_up()
        if self._executors.free > 0:
            return
        await first(self._executors.available(), stop.wait())
