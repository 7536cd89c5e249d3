"""A worker process: its life from session to session, and its figures."""

from __future__ import annotations

import asyncio
import time
from uuid import uuid4

from taskd.domain.config import Version
from taskd.domain.errors import SessionLost, StoreUnavailable, TransportUnavailable, WorkerIdTaken
from taskd.domain.fencing import Session
from taskd.domain.outcome import Released
from taskd.runtime import meters
from taskd.runtime.failpoints import passed
from taskd.runtime.host import certainly_gone, this_process
from taskd.runtime.log import logger
from taskd.runtime.outage import Outage
from taskd.seams import Coordinator, Health, Member, Sessions, Transport
from taskd.settings import WorkerSettings
from taskd.worker.attempts import Attempts
from taskd.worker.fetcher import Fetcher
from taskd.worker.pool.guard import clock as lease_clock
from taskd.worker.pool.pool import ExecutorPool
from taskd.worker.renewer import Renewer

#: Seconds between refreshes of this worker's figures in the registry.
REPORT_EVERY = 3.0
#: Seconds between tries while the worker waits for PostgreSQL or for a predecessor.
PATIENCE = 0.5


class WorkerRole:
    """1. Begins a session. 2. Fetches, runs, settles, renews. 3. Begins another session if this one is lost. 4. Drains and
    leaves when it is asked to stop."""

    def __init__(
        self,
        *,
        worker_id: str,
        settings: WorkerSettings,
        queues: tuple[str, ...],
        sessions: Sessions,
        transport: Transport,
        coordinator: Coordinator,
        attempts: Attempts,
        executors: ExecutorPool,
        fetcher: Fetcher,
        renewer: Renewer,
        postgres: Outage,
        redis: Outage,
    ) -> None:
        self.worker_id = worker_id
        self._settings = settings
        self._queues = queues
        self._sessions = sessions
        self._transport = transport
        self._coordinator = coordinator
        self._attempts = attempts
        self._executors = executors
        self._fetcher = fetcher
        self._renewer = renewer
        self._postgres = postgres
        self._redis = redis
        self._session: Session | None = None
        self._started_at = time.time()
        self._opened_at = 0.0
        self._quiet = False
        self._stop = asyncio.Event()
        self.address = ""

    def components(self) -> dict[str, Health]:
        """Return the health of the three servers as this worker sees them."""
        return {"postgres": self._postgres.health, "redis": self._redis.health, "etcd": self._coordinator.health}

    @property
    def working(self) -> bool:
        """True while a session is open and its lease is good."""
        return self._session is not None and self._renewer.allowed.is_set()

    def configure(self, version: Version) -> None:
        """Apply the live configuration to this worker: its slots, and whether it is to be quiet, or to drain."""
        slots = version.concurrency(self.worker_id) or self._settings.concurrency
        if slots != self._executors.slots:
            logger().info("slots changed", slots=slots, was=self._executors.slots)
            self._executors.resize(slots)
            self._renewer.hurry()
        quiet = version.quiet(self.worker_id)
        if quiet != self._quiet:
            self._quiet = quiet
            logger().info(
                "quiet: taking nothing new" if quiet else "taking jobs again", running=self._executors.running
            )
        if self._session is not None and version.drains(self.worker_id, self._session.id) and not self._stop.is_set():
            logger().info("stopping: this worker was asked to drain", by=version.who)
            self._stop.set()

    def stats(self) -> dict[str, float]:
        """Return this worker's own figures."""
        tallies = self._attempts.reporter.tallies
        return {
            "running": float(self._executors.running),
            "free": float(self._executors.free),
            "completed": float(tallies["completed"]),
            "failed": float(tallies["failed"] + tallies["timed_out"] + tallies["crashed"]),
            "released": float(tallies["released"]),
            "cancelled": float(tallies["cancelled"]),
            "fenced": float(tallies["fenced"]),
            "executor_restarts": float(self._executors.restarts),
            "draining": float(self._stop.is_set()),
        }

    def measure(self) -> None:
        """Set the gauges of this worker's state."""
        meters.RESTARTS.set(self._executors.restarts)
        meters.SLOTS.set(self._executors.slots)
        meters.RUNNING.set(self._executors.running)
        meters.SESSION_AGE.set(time.monotonic() - self._opened_at if self._session is not None else 0.0)

    def member(self, session: Session) -> Member:
        """Return this worker as the registry shows it."""
        return Member(
            kind="worker",
            id=self.worker_id,
            incarnation=session.id,
            address=self.address,
            host=session.host.name,
            pid=session.host.pid,
            started_at=self._started_at,
            queues=list(self._queues),
            slots=self._executors.slots,
            tasks=list(self._executors.tasks),
            stats=self.stats(),
            rates=self._attempts.rates.measure(self._queues),
            lease=self._settings.session_ttl,
            waits=self._attempts.waits,
            stopping=self._executors.stopping,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set and everything is drained. Raises WorkerIdTaken."""
        self._stop = stop
        async with asyncio.TaskGroup() as group:
            settling = group.create_task(self._attempts.settle())
            writing = [group.create_task(writer.write()) for writer in (self._attempts.notes, self._attempts.logs)]
            while not stop.is_set():
                session = await self._begin(stop)
                if session is not None:
                    await self._work(session, stop)
            settling.cancel()
            for task in writing:
                task.cancel()

    async def _begin(self, stop: asyncio.Event) -> Session | None:
        """Open a session under this worker's id, after a dead predecessor's if there is one; None if asked to stop first."""
        session, waited_for, remaining = self._new_session(), None, 0.0
        while not stop.is_set():
            try:
                sent = lease_clock()
                if await self._open(session):
                    await passed("session.opened")
                    self._postgres.up()
                    self._session, self._opened_at = session, time.monotonic()
                    self._renewer.opened(sent)
                    logger().info(
                        "working", queues=list(self._queues), slots=session.slots, tasks=list(self._executors.tasks)
                    )
                    return session
                held = await self._sessions.holder(self.worker_id)
                if held is not None:
                    waited_for, remaining = await self._wait_for_predecessor(*held, waited_for, remaining)
            except StoreUnavailable as error:
                self._postgres.down(error)
                await asyncio.sleep(PATIENCE)
            except SessionLost:
                session = self._new_session()
        return None

    def _new_session(self) -> Session:
        return Session(
            id=uuid4(),
            worker_id=self.worker_id,
            host=this_process(),
            queues=self._queues,
            slots=self._executors.slots,
        )

    async def _open(self, session: Session) -> bool:
        """Open the session; True also if an earlier try has, whose answer was lost. Raises SessionLost if it is over again."""
        ttl = self._settings.session_ttl
        if await self._sessions.open(session, ttl):
            return True
        held = await self._sessions.holder(self.worker_id)
        if held is None or held[0].id != session.id:
            return False
        await self._sessions.heartbeat(session, ttl, [])
        return True

    async def _wait_for_predecessor(
        self, holder: Session, remaining: float, waited_for: Session | None, before: float
    ) -> tuple[Session, float]:
        """End the session of a predecessor that is certainly gone. Wait for any other session to run out."""
        if certainly_gone(holder.host):
            logger().info("ending the session of an earlier process of this worker", pid=holder.host.pid)
            await self._sessions.end(holder.id)
            return holder, remaining
        if waited_for is None or waited_for.id != holder.id:
            logger().warning(
                "waiting: another process has this worker's id",
                host=holder.host.name,
                pid=holder.host.pid,
                at_most_seconds=round(remaining, 1),
            )
        elif remaining > before:
            raise WorkerIdTaken(
                f"worker id {self.worker_id!r} is in use by a live worker (host {holder.host.name}, pid {holder.host.pid}): "
                "choose another with --id"
            )
        await asyncio.sleep(PATIENCE)
        return holder, remaining

    async def _work(self, session: Session, stop: asyncio.Event) -> None:
        try:
            async with (
                self._coordinator.register(lambda: self.member(session), REPORT_EVERY),
                asyncio.TaskGroup() as duties,
            ):
                renewing = [
                    duties.create_task(self._renewer.run(session)),
                    duties.create_task(self._renewer.endure()),
                    duties.create_task(self._renewer.listen()),
                ]
                fetching = duties.create_task(self._fetcher.run(session, stop, self._renewer.allowed))
                await stop.wait()
                await fetching
                await self._drain()
                for task in renewing:
                    task.cancel()
        except* SessionLost:
            self._lost()
        if self._session is not None:
            await self._leave(session)

    def _lost(self) -> None:
        logger().error(
            "this worker's session is over: its jobs were given to others; beginning again",
            tasks=self._executors.running,
        )
        self._session = None
        self._renewer.allowed.clear()
        self._executors.kill()

    async def _drain(self) -> None:
        """Let running tasks finish within the grace. Release the others, at no cost to their jobs."""
        budget = max(0.1, self._settings.grace - self._settings.stop_grace - 1.0)
        logger().info("draining", running=self._executors.running, seconds=round(budget, 1))
        try:
            async with asyncio.timeout(budget):
                await self._attempts.idle()
        except TimeoutError:
            left = self._attempts.running
            logger().warning("releasing what did not finish in time", jobs=[job_id for job_id, _ in left])
            for attempt_id in left:
                self._executors.stop(attempt_id, Released("the worker shut down"))
            try:
                async with asyncio.timeout(self._settings.stop_grace + 2.0):
                    await self._attempts.idle()
            except TimeoutError:
                logger().error("could not settle everything before the end", jobs=self._attempts.open)

    async def _leave(self, session: Session) -> None:
        self._session = None
        try:
            await self._sessions.end(session.id)
        except StoreUnavailable:
            logger().warning("could not end the session: it runs out by itself")
        try:
            await self._transport.leave(self._queues)
        except TransportUnavailable:
            logger().warning("could not leave the consumer group: its entries go to other workers later")
        logger().info("left")
