"""One shard: its leadership and the duties that go with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from taskd.domain.fencing import Term
from taskd.scheduler.dispatcher import Dispatcher
from taskd.scheduler.fleet import Fleet
from taskd.scheduler.leadership import Leadership
from taskd.scheduler.reofferer import Reofferer

Duty = Callable[[Term], Coroutine[Any, Any, None]]


class Shard:
    """1. Be a candidate for the shard. 2. While leading it: dispatch, re-offer, follow the fleet, and run the `more` duties."""

    def __init__(
        self,
        *,
        leadership: Leadership,
        dispatcher: Dispatcher,
        reofferer: Reofferer,
        fleet: Fleet,
        wakeup: asyncio.Event,
        more: Sequence[Duty] = (),
    ) -> None:
        self.leadership = leadership
        self.dispatcher = dispatcher
        self.reofferer = reofferer
        self._fleet = fleet
        self._wakeup = wakeup
        self._more = more
        dispatcher.on_lost_ring = reofferer.suspect

    @property
    def term(self) -> Term | None:
        """The term in which this scheduler leads the shard, or None."""
        return self.leadership.term

    def wake(self) -> None:
        """Wake the dispatcher: there may be work."""
        self._wakeup.set()

    async def run(self) -> None:
        """Lead it whenever possible, until cancelled."""
        await self.leadership.run(self._lead)

    async def _lead(self, term: Term) -> None:
        async with asyncio.TaskGroup() as group:
            for duty in (self.dispatcher.run, self.reofferer.run, *self._more):
                group.create_task(duty(term))
            group.create_task(self._fleet.run())
