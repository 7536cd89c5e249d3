"""Fires schedules: decides each due tick once, under the term, and creates its job."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime

from taskd.domain.errors import StoreUnavailable
from taskd.domain.fencing import Term
from taskd.domain.schedule import Decision, Due, Edition, decide
from taskd.runtime import meters
from taskd.runtime.failpoints import passed
from taskd.runtime.log import logger
from taskd.runtime.outage import Outage
from taskd.runtime.waiting import wait_for
from taskd.scheduler.fire_pruner import FirePruner
from taskd.seams import Ticks

#: Seconds between looks while nothing is due, and while there is no schedule: a change on another scheduler is seen by then.
EVERY, CALM = 1.0, 5.0
#: Seconds from a look that found due schedules to the next one, which sees when the next tick is due.
SOON = 0.05
#: Schedules in one look; ticks after which a statement takes no further schedule, since it holds the leader's row.
LOOK, BATCH = 200, 500
#: Seconds until the next try of a schedule that this process cannot compute, and of one whose row is locked.
BROKEN, HELD = 30.0, 1.0


class Firer:
    """1. Read the due schedules, by PostgreSQL's clock. 2. Compute which ticks fire. 3. Fire them, under the term. 4. Wait.

    All decisions are in PostgreSQL, and none is remembered here from one look to the next, so any leader can go on from them.
    """

    def __init__(self, ticks: Ticks, *, postgres: Outage, wake: Callable[[], None]) -> None:
        self._ticks = ticks
        self._postgres = postgres
        self._wake = wake
        self._wakeup = asyncio.Event()
        #: Schedules that looks leave out, with the time until which. Otherwise they would be due at once, before all others.
        self._aside: dict[Edition, float] = {}
        self.fired = 0

    def changed(self) -> None:
        """Look again soon: a schedule may have been created or changed."""
        self._wakeup.set()

    async def run(self, term: Term) -> None:
        """Fire until cancelled. Raises NotLeader when the term is over."""
        fire_pruner, begun = FirePruner(self._ticks), False
        while True:
            wait = EVERY
            self._wakeup.clear()
            try:
                if not begun:  # this process may have newer time zone rules than the previous leader
                    await self._ticks.rework(term)
                    begun = True
                wait = await self._look(term)
                if await fire_pruner.page(term):
                    wait = min(wait, SOON)
            except StoreUnavailable as error:
                self._postgres.down(error)
            await wait_for(self._wakeup, wait)

    async def _look(self, term: Term) -> float:
        """Fire the due schedules; return the seconds until the next look."""
        look = await self._ticks.due(LOOK, self._left_out())
        if look.waiting:
            self._count(await self._ticks.fire_waiting(term, LOOK))
        batch: list[Decision] = []
        for due in look.due:
            batch += self._decide(due, look.now)
            await asyncio.sleep(0)  # computing a tick takes up to a millisecond; dispatching goes on meanwhile
            if sum(len(decision.fires) for decision in batch) >= BATCH:
                await self._fire(term, batch)
                batch.clear()
        if batch:
            await self._fire(term, batch)
        if len(look.due) == LOOK:
            return 0.0
        if look.due:
            return SOON
        if not look.some:
            return CALM
        return min(EVERY, look.next_in if look.next_in is not None else EVERY)

    def _left_out(self) -> Collection[Edition]:
        now = time.monotonic()
        self._aside = {edition: until for edition, until in self._aside.items() if until > now}
        return self._aside

    def _leave(self, editions: Collection[Edition], seconds: float) -> None:
        self._aside |= dict.fromkeys(editions, time.monotonic() + seconds)

    def _decide(self, due: Due, now: datetime) -> list[Decision]:
        try:
            return [decide(due, now)]
        except ValueError as error:
            self._leave([due.edition], BROKEN)
            logger().error("a schedule cannot fire", schedule=due.name, zone=due.rule.tz, error=str(error))
            return []

    async def _fire(self, term: Term, batch: Sequence[Decision]) -> None:
        fired = await self._ticks.fire(term, batch)
        self._leave(fired.left, HELD)
        if fired.jobs:
            await passed("cron.fired")
        self._count(fired.jobs)
        meters.SKIPPED_TICKS.inc(fired.skipped)

    def _count(self, jobs: int) -> None:
        if jobs:
            self.fired += jobs
            meters.FIRED.inc(jobs)
            self._wake()
