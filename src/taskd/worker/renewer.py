"""Keeps the session alive, and stops all tasks in time when that is no longer possible."""

from __future__ import annotations

import asyncio

from taskd.domain.errors import StoreUnavailable, TransportUnavailable
from taskd.domain.fencing import Session
from taskd.domain.job import AttemptId
from taskd.domain.outcome import Released
from taskd.runtime.log import logger
from taskd.runtime.outage import Outage
from taskd.runtime.waiting import wait_for
from taskd.seams import Sessions, Transport
from taskd.settings import WorkerSettings
from taskd.worker.attempts import Attempts
from taskd.worker.pool.guard import clock as lease_clock
from taskd.worker.pool.pool import ExecutorPool

#: Seconds before the lease's end at which the tasks must have stopped.
MARGIN = 1.0
#: Seconds between tries while PostgreSQL is away.
OUTAGE = 0.5
#: Seconds for which a leader's report "PostgreSQL is away for me too" counts. Such a leader, or its successor, waits a whole
#: lease before it reaps anything.
BENEFIT = 4.0


class Renewer:
    """1. Sends heartbeats, one at once when a job of this worker may have been cancelled. 2. Stops attempts that were cancelled
    or lost. 3. Without an answer: asks whether the leader reaches PostgreSQL. 4. Stops all attempts in time.

    The lease counts from before the heartbeat was sent. The guard has the same deadline, in case this process is frozen.
    """

    def __init__(
        self,
        sessions: Sessions,
        transport: Transport,
        attempts: Attempts,
        executors: ExecutorPool,
        settings: WorkerSettings,
        *,
        postgres: Outage,
    ) -> None:
        self._sessions = sessions
        self._transport = transport
        self._attempts = attempts
        self._executors = executors
        self._ttl = settings.session_ttl
        self._every = settings.heartbeat
        self._postgres = postgres
        self._until = 0.0
        self._hurry = asyncio.Event()
        self.allowed = asyncio.Event()

    def opened(self, sent: float) -> None:
        """Begin the lease of a new session; `sent` is the lease clock from before it was opened."""
        self._extend(sent + self._ttl)

    def hurry(self) -> None:
        """Send the next heartbeat now."""
        self._hurry.set()

    async def run(self, session: Session) -> None:
        """Renew until cancelled. Raises SessionLost, after the tasks were stopped, when the session is dead."""
        while True:
            await self._wait_until_due()
            try:
                await self._renew(session)
                self._postgres.up()
            except StoreUnavailable as error:
                self._postgres.down(error)
                self.allowed.clear()

    async def listen(self) -> None:
        """Hurry when Redis reports a cancelled job that runs here. Until cancelled.

        The report itself stops nothing. The heartbeat does, by its answer from PostgreSQL, and it comes without Redis as well.
        """
        async for job_ids in self._transport.cancellations():
            if job_ids is None or any(job_id in job_ids for job_id, _ in self._attempts.running):
                self._hurry.set()

    async def endure(self) -> None:
        """While PostgreSQL is away, outlive the lease if no leader can reap this worker, else stop in time. Until cancelled.

        This does not wait for heartbeats: on a hung server each of them takes its whole deadline.
        """
        while True:
            await asyncio.sleep(OUTAGE)
            if not self._postgres.health.ok:
                await self._extend_or_stop()

    async def _renew(self, session: Session) -> None:
        sent = lease_clock()
        gone = await self._sessions.heartbeat(session, self._ttl, self._attempts.running, self._executors.slots)
        self._extend(sent + self._ttl)
        running = set(self._attempts.running)
        for job_id, attempt, outcome in gone:
            attempt_id = AttemptId(job_id, attempt)
            if attempt_id not in running or outcome == "completed":
                continue  # it was settled meanwhile, or its own transaction has completed its job
            if outcome == "cancelled":
                logger().info("stopping an attempt: its job was cancelled", job=job_id, attempt=attempt)
                self._executors.stop(attempt_id, Released("the job was cancelled"))
            else:
                logger().warning("stopping an attempt whose claim is gone", job=job_id, attempt=attempt)
                self._executors.stop(attempt_id, Released("the claim was lost"))

    async def _wait_until_due(self) -> None:
        """Wait until the next heartbeat is due. While PostgreSQL is away `hurry` does not shorten this."""
        if not self._postgres.health.ok:
            await asyncio.sleep(OUTAGE)
            return
        await wait_for(self._hurry, self._every)
        self._hurry.clear()

    async def _extend_or_stop(self) -> None:
        if await self._leader_is_cut_off():
            self._extend(max(self._until, lease_clock() + MARGIN + BENEFIT), good=False)
        elif lease_clock() > self._until - MARGIN and self._attempts.running:
            logger().error(
                "stopping all tasks: the lease runs out and PostgreSQL cannot be reached",
                tasks=len(self._attempts.running),
            )
            self._executors.kill()

    async def _leader_is_cut_off(self) -> bool:
        try:
            view = await self._transport.view()
        except TransportUnavailable:
            return False
        return view is not None and not view.postgres

    def _extend(self, until: float, *, good: bool = True) -> None:
        self._until = until
        self._executors.lease(until - MARGIN / 2)
        if good:
            self.allowed.set()
