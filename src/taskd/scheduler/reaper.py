"""Ends the sessions of silent workers, and makes their jobs due again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime

from taskd.domain.errors import StoreUnavailable
from taskd.domain.fencing import Term
from taskd.domain.policy import LONE_LOSS_LIMIT
from taskd.runtime import meters
from taskd.runtime.failpoints import passed
from taskd.runtime.log import logger
from taskd.runtime.outage import Outage
from taskd.seams import Reaping

#: Seconds between looks.
EVERY = 2.0
#: Seconds that PostgreSQL's clock may gain on this process's from one look to the next; more is a jump.
JUMP = 2.0
#: Seconds between deletions of old sessions.
CLEAR_EVERY = 600.0


class Reaper:
    """1. Wait a whole lease at the start of a term and after each gap in the connection. 2. End the expired sessions.
    3. Free their jobs.

    The wait gives workers a lease's time to come back after an outage of PostgreSQL, which they could not reach either. A
    lease counts as expired only if it had expired at the previous look too: a statement that was under way while the server
    stood still must not reap when it goes on. If PostgreSQL's clock jumps ahead, every lease seems expired, so a jump counts
    as a gap. The jobs of a session that its own worker ended are freed at once.
    """

    def __init__(self, reaping: Reaping, *, lease: float, postgres: Outage, wake: Callable[[], None]) -> None:
        self._reaping = reaping
        self._lease = lease
        self._postgres = postgres
        self._wake = wake
        #: PostgreSQL's time at the previous look; and the same if sessions that had expired by then may be ended, or None.
        self._seen: datetime | None = None
        self._before: datetime | None = None
        self._asked_at = 0.0
        self._patient_until = 0.0
        self.reaped = 0

    async def run(self, term: Term) -> None:
        """Reap until cancelled. Raises NotLeader when the term is over."""
        gaps, self._seen = self._postgres.gaps, None
        self._give_time()
        clear_at = time.monotonic() + CLEAR_EVERY
        while True:
            try:
                if gaps != self._postgres.gaps or not self._postgres.health.ok:
                    gaps = self._postgres.gaps
                    self._give_time()
                await self._reap(term)
                if time.monotonic() >= clear_at:
                    await self._reaping.forget_sessions(term)
                    await self._reaping.forget_notes(term)
                    clear_at = time.monotonic() + CLEAR_EVERY
            except StoreUnavailable as error:
                self._postgres.down(error)
                self._give_time()
            await asyncio.sleep(EVERY)

    def _give_time(self) -> None:
        """Give every worker the time to renew before a session is ended."""
        self._patient_until, self._before = time.monotonic() + self._lease, None

    async def _look(self, term: Term) -> list[str]:
        """End the expired sessions, unless workers still have time; return the workers' ids. Watches PostgreSQL's clock."""
        patient = time.monotonic() < self._patient_until
        seen, since, self._asked_at = self._seen, self._asked_at, time.monotonic()
        workers, self._seen = await self._reaping.end_expired(term, None if patient else self._before)
        if seen is not None and (self._seen - seen).total_seconds() > time.monotonic() - since + JUMP:
            logger().warning("PostgreSQL's clock jumped ahead: every worker gets a lease's time to renew")
            self._give_time()
        elif not patient:
            self._before = self._seen
        return workers

    async def _reap(self, term: Term) -> None:
        workers = await self._look(term)
        if workers:
            await passed("reap.ended")
        freed = await self._reaping.free_jobs(term, LONE_LOSS_LIMIT)
        if workers or freed.restarted or freed.failed:
            self.reaped += len(workers)
            meters.REAPED.inc(len(workers))
            meters.RESTARTED.inc(freed.restarted)
            # Jobs of sessions that ended earlier: their workers were named then.
            names = {"workers": workers} if workers else {}
            logger().warning("restarted jobs of lost workers", **names, jobs=freed.restarted, failed=freed.failed)
            self._wake()
