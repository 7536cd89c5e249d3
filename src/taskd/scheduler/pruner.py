"""Deletes finished jobs whose retention is over."""

from __future__ import annotations

import asyncio
import time

from taskd.domain.errors import StoreUnavailable
from taskd.domain.fencing import Term
from taskd.domain.job import FINAL, JobStatus
from taskd.runtime import meters
from taskd.runtime.config import Config
from taskd.runtime.log import logger
from taskd.runtime.outage import Outage
from taskd.seams import Pruning
from taskd.settings import HistorySettings as Settings

#: Jobs in one statement. It holds the leader's row, so it must be short even where each job has a megabyte.
PAGE = 500
#: Seconds between pages, so that pruning takes a small part of the database's time.
PAUSE = 0.05
#: Seconds between rounds. A round goes on where the last one met young jobs.
EVERY = 30.0
#: Seconds between rounds over all ids: jobs with low ids may have ended late.
WHOLE_EVERY = 6 * 3600.0


class Pruner:
    """Walks the jobs of each final status in the order of their ids, a page at a time, until a page has no old job.

    Most jobs end in the order of their ids, so the next round goes on from there. Every six hours a round covers all ids.
    """

    def __init__(self, history: Pruning, settings: Settings, *, config: Config, postgres: Outage) -> None:
        self._history = history
        self._keep = {
            JobStatus.COMPLETED: settings.keep_completed,
            JobStatus.FAILED: settings.keep_failed,
            JobStatus.CANCELLED: settings.keep_cancelled,
        }
        self._config = config
        self._postgres = postgres
        self._after = dict.fromkeys(FINAL, 0)
        self.pruned = 0

    async def run(self, term: Term) -> None:
        """Prune until cancelled. Raises NotLeader when the term is over."""
        whole_at = 0.0
        while True:
            whole = time.monotonic() >= whole_at
            if whole:
                whole_at = time.monotonic() + WHOLE_EVERY
                self._after = dict.fromkeys(FINAL, 0)
            try:
                pruned = sum([await self._round(term, status, whole=whole) for status in self._keep])
                if whole:
                    await self._prune_logs(term)
            except StoreUnavailable as error:
                self._postgres.down(error)
            else:
                if pruned:
                    self.pruned += pruned
                    meters.PRUNED.inc(pruned)
                    logger().info("deleted finished jobs that were kept long enough", jobs=pruned)
            await asyncio.sleep(EVERY)

    async def _round(self, term: Term, status: JobStatus, *, whole: bool) -> int:
        keep = self._config.now.keep(status) or self._keep[status]
        deleted, after, met_young = 0, self._after[status], False
        while True:
            page = await self._history.prune(term, status, keep, after, PAGE)
            deleted, after, met_young = deleted + page.deleted, page.last, met_young or not page.deleted
            if not met_young:
                self._after[status] = after
            if page.seen < PAGE or (met_young and not whole):
                return deleted
            await asyncio.sleep(PAUSE)

    async def _prune_logs(self, term: Term) -> None:
        """Walk the logs of attempts once, and delete those whose job is gone."""
        after: int | None = 0
        while after is not None:
            after = await self._history.forget_logs(term, after, PAGE)
            await asyncio.sleep(PAUSE)
