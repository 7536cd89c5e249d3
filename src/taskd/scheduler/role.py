"""A scheduler process, joined together from its duties."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from taskd.domain.claim import Term
from taskd.domain.errors import TransportUnavailable
from taskd.runtime.outage import Outage
from taskd.scheduler.dispatcher import Dispatcher
from taskd.scheduler.fleet import Fleet
from taskd.scheduler.leadership import Leadership
from taskd.scheduler.pruner import Pruner
from taskd.scheduler.reaper import Reaper
from taskd.scheduler.reofferer import Reofferer
from taskd.scheduler.vitals import watch_postgres, watch_redis
from taskd.seams import Coordinator, Health, LeaderView, Overview, Transport

#: Seconds between publications of what the leader sees, and how long one is good.
VIEW_EVERY, VIEW_TTL = 1.0, 5.0


class SchedulerRole:
    """1. Watch the servers. 2. Lead when elected. 3. Answer the doorbell. 4. Tell workers what the leader sees."""

    def __init__(
        self,
        *,
        instance_id: str,
        overview: Overview,
        transport: Transport,
        coordinator: Coordinator,
        postgres: Outage,
        redis: Outage,
        bell: asyncio.Event,
        fleet: Fleet,
        leadership: Leadership,
        dispatcher: Dispatcher,
        reofferer: Reofferer,
        reaper: Reaper,
        pruner: Pruner,
        keep_live: Callable[[Term], Coroutine[Any, Any, None]],
    ) -> None:
        self.instance_id = instance_id
        self._overview = overview
        self._transport = transport
        self._coordinator = coordinator
        self._postgres = postgres
        self._redis = redis
        self._bell = bell
        self._fleet = fleet
        self._leadership = leadership
        self._dispatcher = dispatcher
        self._reofferer = reofferer
        self._reaper = reaper
        self._pruner = pruner
        self._keep_live = keep_live
        dispatcher.on_lost_ring = reofferer.suspect

    @property
    def term(self) -> Term | None:
        """The term this scheduler leads in, or None."""
        return self._leadership.term

    def components(self) -> dict[str, Health]:
        """The health of the three servers as this scheduler sees them."""
        return {"postgres": self._postgres.health, "redis": self._redis.health, "etcd": self._coordinator.health}

    def stats(self) -> dict[str, float]:
        """This scheduler's own figures, for the registry."""
        return {
            "leading": float(self.term is not None),
            "dispatched": float(self._dispatcher.dispatched),
            "reoffered": float(self._reofferer.reoffered),
            "reaped": float(self._reaper.reaped),
            "pruned": float(self._pruner.pruned),
        }

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then hand over."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(watch_postgres(self._overview, self._postgres)),
                group.create_task(watch_redis(self._transport, self._redis)),
                group.create_task(self._listen()),
                group.create_task(self._publish()),
                group.create_task(self._leadership.run(self._reign)),
            ]
            await stop.wait()
            for task in tasks:
                task.cancel()

    async def _reign(self, term: Term) -> None:
        async with asyncio.TaskGroup() as duties:
            for duty in (
                self._dispatcher.run(term),
                self._reofferer.run(term),
                self._reaper.run(term),
                self._pruner.run(term),
                self._fleet.run(),
                self._keep_live(term),
            ):
                duties.create_task(duty)

    async def _listen(self) -> None:
        async for _ in self._transport.wakes():
            self._bell.set()

    async def _publish(self) -> None:
        """Tell workers whether the leader reaches PostgreSQL, also after a term that ended because it does not."""
        while True:
            answers = self._postgres.health.ok
            if self.term is not None or (self._leadership.last_epoch and not answers):
                view = LeaderView(self._leadership.last_epoch, answers)
                try:
                    await self._transport.publish_view(view, VIEW_TTL)
                except TransportUnavailable as error:
                    self._redis.down(error)
            await asyncio.sleep(VIEW_EVERY)


class Doorbell:
    """What the intake rings after each commit: our own dispatcher if we lead, else the leader's, through Redis.

    Rings that come while one is under way share the next one.
    """

    def __init__(self, transport: Transport, bell: asyncio.Event, leading: Callable[[], bool]) -> None:
        self._transport = transport
        self._bell = bell
        self._leading = leading
        self._wanted = False
        self._ringing: asyncio.Task[None] | None = None

    def __call__(self) -> None:
        """Ring; never blocks, never raises."""
        if self._leading():
            self._bell.set()
            return
        self._wanted = True
        if self._ringing is None or self._ringing.done():
            self._ringing = asyncio.create_task(self._ring())

    async def _ring(self) -> None:
        while self._wanted:
            self._wanted = False
            try:
                await self._transport.wake()
            except TransportUnavailable:
                return  # the leader's slow poll finds the jobs
