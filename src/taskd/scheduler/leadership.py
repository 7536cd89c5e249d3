"""Leadership of a shard: wins, keeps and gives up the right to dispatch its queues."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from uuid import UUID

from taskd.domain.errors import NotLeader, StoreUnavailable
from taskd.domain.fencing import LeaderRow as Row
from taskd.domain.fencing import Term
from taskd.runtime import meters
from taskd.runtime.failpoints import passed
from taskd.runtime.lifecycle import first_of
from taskd.runtime.log import logger
from taskd.runtime.outage import Outage
from taskd.seams import Campaign, Coordinator, Terms
from taskd.settings import SchedulerSettings

#: Seconds between looks of a candidate that may win at the next one.
EVERY = 0.5
#: Seconds that etcd must have been away before a candidate goes on without it.
ETCD_PATIENCE = 2.0

Duties = Callable[[Term], Awaitable[None]]


class SteppedBack(Exception):
    """This scheduler ends its term so that another one can lead."""


class Leadership:
    """1. Be a candidate while PostgreSQL answers. 2. Take the next epoch. 3. Lead: do the duties, renew, watch etcd. 4. Resign.

    A term ends when PostgreSQL shows a newer epoch, when etcd shows another holder, after `leader_stale` seconds without a
    commit, or by `step_back`. It does not end because etcd is away.

    Candidates read the leaders' rows by `current`, on a connection that they share. A leader has connections of its own, for
    `terms` and for the duties; `rest` closes them.
    """

    def __init__(
        self,
        terms: Terms,
        coordinator: Coordinator,
        settings: SchedulerSettings,
        *,
        instance_id: str,
        holder: UUID,
        shard: int,
        current: Callable[[], Awaitable[list[Row]]],
        rest: Callable[[], Awaitable[object]],
        postgres: Outage,
        dispatched: Callable[[], int],
    ) -> None:
        self._terms = terms
        self._coordinator = coordinator
        self._settings = settings
        self._instance_id = instance_id
        self._holder = holder
        self._stepped_back = asyncio.Event()
        self.shard = shard
        self._current = current
        self._rest = rest
        self._postgres = postgres
        self._dispatched = dispatched
        self._counted = 0
        self.term: Term | None = None
        self.last_epoch = 0

    async def run(self, duties: Duties) -> None:
        """Lead whenever possible, until cancelled; `duties` runs those of one term until it ends."""
        while True:
            if not self._postgres.health.ok:
                await asyncio.sleep(EVERY)
                continue
            self._stepped_back.clear()
            async with self._coordinator.campaign(self._instance_id, self._holder, self.shard) as campaign:
                term = await self._acquire(campaign)
                if term is not None:
                    await self._lead(term, duties)
            await self._rest()

    def step_back(self) -> None:
        """Go to the end of the line, so that the next candidate is first: a leader at once, a candidate within seconds."""
        self._stepped_back.set()

    async def _acquire(self, campaign: Campaign) -> Term | None:
        """Wait for the leadership. Return None after `step_back` or without PostgreSQL: the candidacy must be withdrawn."""
        while self._postgres.health.ok and not self._stepped_back.is_set():
            may_win = campaign.won is not None or self._without_etcd()
            try:
                term = await self._try(campaign.won) if may_win else None
            except StoreUnavailable as error:
                self._postgres.down(error)
                return None
            if term is not None:
                return term
            await _within(self._coordinator.changed(), EVERY if may_win else self._settings.leader_renew)
        return None

    def _without_etcd(self) -> bool:
        """Return True if etcd has been away for a while. A process that just started may only not have reached it yet."""
        health = self._coordinator.health
        return not health.ok and time.time() - health.since > ETCD_PATIENCE

    async def _try(self, revision: int | None) -> Term | None:
        row = next((row for row in await self._current() if row.shard == self.shard), None)
        stale = row is None or row.age > self._settings.leader_stale
        if not stale and (revision is None or (row is not None and revision <= row.etcd_revision)):
            return None
        term = await self._terms.take_over(
            self._holder,
            self._instance_id,
            revision,
            self._settings.leader_stale,
            shard=self.shard,
            shards=self._settings.shards,
        )
        if term is not None:
            await passed("term.taken")
        return term

    async def _lead(self, term: Term, duties: Duties) -> None:
        self.term, self.last_epoch = term, term.epoch
        self._counted = self._dispatched()
        meters.TERMS.inc()
        meters.EPOCH.labels(term.shard).set(term.epoch)
        logger().info("leading", shard=term.shard, epoch=term.epoch)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._renew(term))
                group.create_task(self._watch())
                group.create_task(self._end_when_stepped_back())
                group.create_task(_run(duties, term))
        except* NotLeader as over:
            logger().warning("no longer leading", shard=term.shard, epoch=term.epoch, reason=str(first_of(over)))
        except* SteppedBack:
            logger().info("handing over: other schedulers lead fewer shards", shard=term.shard, epoch=term.epoch)
        finally:
            self.term = None
            await self._resign(term)

    async def _renew(self, term: Term) -> None:
        committed = time.monotonic()
        while True:
            await asyncio.sleep(self._settings.leader_renew)
            dispatched = self._dispatched()
            try:
                await self._terms.renew(term, dispatched - self._counted)
                self._counted, committed = dispatched, time.monotonic()
                self._postgres.up()
            except StoreUnavailable as error:
                self._postgres.down(error)
                silent = time.monotonic() - committed
                if silent > self._settings.leader_stale:
                    raise NotLeader(f"nothing could be committed for {silent:.0f} s") from None

    async def _watch(self) -> None:
        """End the term as soon as etcd shows another holder. An etcd that is away shows nothing."""
        while True:
            leader = next(iter(self._coordinator.line(self.shard)), None)
            if leader is not None and leader.holder != self._holder:
                raise NotLeader(f"etcd shows {leader.instance_id} as leader")
            await self._coordinator.changed()

    async def _end_when_stepped_back(self) -> None:
        await self._stepped_back.wait()
        raise SteppedBack

    async def _resign(self, term: Term) -> None:
        try:
            await self._terms.resign(term)
        except StoreUnavailable:
            logger().info("could not resign in PostgreSQL: the term expires", shard=term.shard, epoch=term.epoch)


async def _run(duties: Duties, term: Term) -> None:
    await duties(term)


async def _within(event: Awaitable[None], seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event
    except TimeoutError:
        return
