"""Ends the sessions of workers that fell silent, and restarts their jobs elsewhere."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime

from taskd.domain.claim import Term
from taskd.domain.errors import StoreUnavailable
from taskd.domain.retry import LOSS_LIMIT
from taskd.runtime.failpoints import passed
from taskd.runtime.log import logger
from taskd.runtime.outage import Outage
from taskd.seams import Upkeep

#: Seconds between looks.
EVERY = 1.5
#: Seconds between clearings of old sessions.
CLEAR_EVERY = 600.0


class Reaper:
    """1. Wait a whole lease at the start of a term and after each gap in our own connection. 2. End what
    expired. 3. Free its jobs.

    The wait is what keeps an outage of PostgreSQL from reaping workers that could not reach it either: they get a lease's
    time to come back first. And a lease counts as expired only if it was so at the previous look: a statement that was on
    its way while the server stood still must not reap at the thaw. Sessions that were ended by their own worker are freed
    without any of this.
    """

    def __init__(self, upkeep: Upkeep, *, lease: float, postgres: Outage, bell: asyncio.Event) -> None:
        self._upkeep = upkeep
        self._lease = lease
        self._postgres = postgres
        self._bell = bell
        self._before: datetime | None = None
        self.reaped = 0

    async def run(self, term: Term) -> None:
        """Reap until cancelled. Raises NotLeader when the term is over."""
        gaps, patient_until = self._postgres.gaps, time.monotonic() + self._lease
        self._before = None
        clear_at = time.monotonic() + CLEAR_EVERY
        while True:
            try:
                if gaps != self._postgres.gaps or not self._postgres.health.ok:
                    gaps, patient_until = self._postgres.gaps, time.monotonic() + self._lease
                await self._reap(term, expired=time.monotonic() >= patient_until)
                if time.monotonic() >= clear_at:
                    await self._upkeep.forget_sessions(term)
                    clear_at = time.monotonic() + CLEAR_EVERY
            except StoreUnavailable as error:
                self._postgres.down(error)
                patient_until = time.monotonic() + self._lease
            if time.monotonic() < patient_until:
                self._before = None
            await asyncio.sleep(EVERY)

    async def _reap(self, term: Term, *, expired: bool) -> None:
        workers: list[str] = []
        if expired:
            workers, self._before = await self._upkeep.end_expired(term, self._before)
            if workers:
                await passed("reap.ended")
        freed = await self._upkeep.free_jobs(term, LOSS_LIMIT)
        if workers or freed.restarted or freed.failed:
            self.reaped += len(workers)
            logger().warning(
                "restarted jobs of lost workers", workers=workers, jobs=freed.restarted, failed=freed.failed
            )
            self._bell.set()
