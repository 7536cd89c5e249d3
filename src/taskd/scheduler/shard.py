"""What one shard's leadership is made of."""

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
    """1. Stand for the shard. 2. While it is ours, dispatch, ring again, see who can run jobs, and do what `more` there is."""

    def __init__(
        self,
        *,
        leadership: Leadership,
        dispatcher: Dispatcher,
        reofferer: Reofferer,
        fleet: Fleet,
        bell: asyncio.Event,
        more: Sequence[Duty] = (),
    ) -> None:
        self.leadership = leadership
        self.dispatcher = dispatcher
        self.reofferer = reofferer
        self._fleet = fleet
        self._bell = bell
        self._more = more
        dispatcher.on_lost_ring = reofferer.suspect

    @property
    def term(self) -> Term | None:
        """The term in which it is ours, or None."""
        return self.leadership.term

    def ring(self) -> None:
        """There may be work to dispatch."""
        self._bell.set()

    async def run(self) -> None:
        """Lead it whenever possible, until cancelled."""
        await self.leadership.run(self._reign)

    async def _reign(self, term: Term) -> None:
        async with asyncio.TaskGroup() as duties:
            for duty in (self.dispatcher.run, self.reofferer.run, *self._more):
                duties.create_task(duty(term))
            duties.create_task(self._fleet.run())
