"""Deletes finished jobs that have been kept long enough."""

from __future__ import annotations

import asyncio
import time

from taskd.domain.claim import Term
from taskd.domain.errors import StoreUnavailable
from taskd.domain.job import FINAL, JobStatus
from taskd.runtime import meters
from taskd.runtime.live import Live
from taskd.runtime.log import logger
from taskd.runtime.outage import Outage
from taskd.seams import History
from taskd.settings import History as Settings

#: Jobs in one statement: short enough that nobody waits for its locks.
PAGE = 1000
#: Seconds between pages, so that pruning takes a small part of the database's time.
PAUSE = 0.1
#: Seconds between rounds that begin where the last one met young jobs.
EVERY = 30.0
#: Seconds between rounds that begin at the lowest id: jobs with low ids may have ended late.
AFRESH_EVERY = 3600.0


class Pruner:
    """Walks each final status along the ids, a page at a time, until it meets a page with nothing old on it.

    Most jobs end in the order of their ids, so the walk goes on from there; now and then it starts over.
    """

    def __init__(self, history: History, settings: Settings, *, live: Live, postgres: Outage) -> None:
        self._history = history
        self._keep = {
            JobStatus.COMPLETED: settings.keep_completed,
            JobStatus.FAILED: settings.keep_failed,
            JobStatus.CANCELLED: settings.keep_cancelled,
        }
        self._live = live
        self._postgres = postgres
        self._after = dict.fromkeys(FINAL, 0)
        self.pruned = 0

    async def run(self, term: Term) -> None:
        """Prune until cancelled. Raises NotLeader when the term is over."""
        afresh_at = 0.0
        while True:
            if time.monotonic() >= afresh_at:
                self._after = dict.fromkeys(FINAL, 0)
                afresh_at = time.monotonic() + AFRESH_EVERY
            try:
                pruned = sum([await self._round(term, status) for status in self._keep])
            except StoreUnavailable as error:
                self._postgres.down(error)
            else:
                if pruned:
                    self.pruned += pruned
                    meters.PRUNED.inc(pruned)
                    logger().info("deleted finished jobs that were kept long enough", jobs=pruned)
            await asyncio.sleep(EVERY)

    async def _round(self, term: Term, status: JobStatus) -> int:
        deleted = 0
        keep = self._live.now.keep(status) or self._keep[status]
        while True:
            page = await self._history.prune(term, status, keep, self._after[status], PAGE)
            deleted += page.deleted
            if not page.deleted:
                return deleted
            # Young ones among the old are left behind until the walk starts over.
            self._after[status] = page.last
            if page.seen < PAGE:
                return deleted
            await asyncio.sleep(PAUSE)
