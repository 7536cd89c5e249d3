"""The attempts of a worker, from their claim to their recorded end, always in batches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from taskd.domain.fencing import Claim, Delivery, Session, Suspect
from taskd.domain.job import AttemptId
from taskd.domain.outcome import Completed, Outcome, Released
from taskd.domain.output import Chunk
from taskd.domain.retry import decide, with_crash_count
from taskd.runtime import meters
from taskd.runtime.failpoints import passed
from taskd.runtime.log import logger
from taskd.seams import Claims, Coordinator, LogStore, NoteStore, Order, Settlement, Transport
from taskd.worker.locks import AttemptLocks
from taskd.worker.logs import LogWriter
from taskd.worker.notes import NoteWriter
from taskd.worker.pool.pool import EndedAttempt, ExecutorPool, OnEnd, OnMessage
from taskd.worker.pool.protocol import Answer, LockRelease, LockRequest, NoteMessage, TaskMessage
from taskd.worker.rates import Rates
from taskd.worker.reporting import AttemptReporter
from taskd.worker.settler import BATCH, Ending, Settler


class Attempts:
    """All that this worker has claimed and not yet settled. Ends wait here while PostgreSQL is away.

    They are bounded: nothing new is claimed while more ends wait than the worker has slots, or one batch.
    """

    def __init__(
        self,
        claims: Claims,
        notes: NoteStore,
        logs: LogStore,
        transport: Transport,
        coordinator: Coordinator,
        *,
        worker_id: str,
        slots: int,
        max_log_bytes: int = 0,
        executors: Callable[[OnEnd, OnMessage], ExecutorPool],
    ) -> None:
        self._claims = claims
        self.notes = NoteWriter(notes, self._claim)
        self.logs = LogWriter(logs, self._claim, self._output_written, max_log_bytes)
        self._locks = AttemptLocks(coordinator, self._lock_lost, worker_id)
        self._bound = max(slots, BATCH)
        self._running: dict[AttemptId, tuple[Claim, float]] = {}
        #: Ends of attempts whose last output is not written yet; None for an attempt that is settled already.
        self._awaiting_output: dict[AttemptId, Ending | None] = {}
        self._fewer = asyncio.Event()
        self.rates = Rates()
        #: Where the attempts run.
        self.executors = executors(self.on_end, self.on_message)
        self.reporter = AttemptReporter(lambda: self.executors.tasks)
        self._settler = Settler(claims, self.logs, transport, self.reporter, self._fewer.set)

    @property
    def running(self) -> list[AttemptId]:
        """The attempts whose code runs now."""
        return list(self._running)

    @property
    def waits(self) -> dict[int, str]:
        """The locks that attempts wait for, by job."""
        return self._locks.waits

    @property
    def open(self) -> int:
        """The number of claims that are not settled yet."""
        return len(self._running) + self._ended

    @property
    def _ended(self) -> int:
        return len(self._awaiting_output) + self._settler.open

    async def accept(
        self, session: Session, deliveries: Sequence[Delivery], *, again: bool, alone: bool = False
    ) -> list[Suspect]:
        """Claim the deliveries and begin those that were won. Return those that are left because they only run `alone`.

        `again` says that the answer to an earlier try was lost. Raises SessionLost, StoreUnavailable.
        """
        await passed("claim.before")
        claims = await self._claims.claim(session, deliveries, again=again, alone=alone)
        meters.CLAIMED.inc(len(claims))
        if claims:
            await passed("claim.done")
        now = time.monotonic()
        won = [claim for claim in claims if not (again and self._knows(claim.attempt_id))]
        self._running.update({claim.attempt_id: (claim, now) for claim in won})
        self.reporter.begun(won)
        self.executors.begin([self._order(claim) for claim in won])
        claimed = {claim.job_id for claim in claims}
        refused = [delivery for delivery in deliveries if delivery.job_id not in claimed]
        suspects = await self._claims.suspects(refused) if refused else []
        meters.REFUSED.inc(len(refused) - len(suspects))
        return suspects

    async def put_off(self, session: Session, suspect: Suspect, delay: float) -> None:
        """Let another worker have a suspect, not before `delay` seconds. Raises StoreUnavailable."""
        await self._claims.put_off(session, suspect, delay)

    def on_message(self, message: TaskMessage, reply: Callable[[Answer], None]) -> None:
        """Handle a message of a running attempt."""
        match message:
            case NoteMessage():
                self.notes.add(message, reply)
            case Chunk():
                self.logs.add(message)
            case LockRequest():
                self._locks.take(message, reply)
            case LockRelease():
                self._locks.release(message)

    def on_end(self, ended: Sequence[EndedAttempt]) -> None:
        """Take attempts whose code has stopped."""
        now = time.monotonic()
        for attempt_id, outcome, output in ended:
            recorded = isinstance(outcome, Completed) and outcome.recorded
            if output is not None and (recorded or self.logs.has_output(attempt_id)):
                # It follows lines that may not be written yet, or its job is settled already.
                self.logs.add(output)
                output = None  # noqa: PLW2901
            claim, began = self._running.pop(attempt_id, (None, 0.0))
            self._locks.end(attempt_id)
            if claim is None:
                continue
            self.rates.ended[claim.job.queue] += 1
            if recorded:
                self._recorded(claim, outcome, now - began)
            else:
                self._end(claim, outcome, output, now - began)
        self._fewer.set()

    async def caught_up(self) -> None:
        """Return when few enough ends wait to be settled."""
        while self._ended > self._bound:
            self._fewer.clear()
            await self._fewer.wait()

    async def idle(self) -> None:
        """Return when every claim is settled."""
        while self.open:
            self._fewer.clear()
            await self._fewer.wait()

    async def settle(self) -> None:
        """Settle ends until cancelled."""
        await self._settler.run()

    def _lock_lost(self, attempt_id: AttemptId, name: str) -> None:
        self.executors.stop(attempt_id, Released(f"the lock {name!r} was lost"))

    def _claim(self, attempt_id: AttemptId) -> Claim | None:
        claim, _ = self._running.get(attempt_id, (None, 0.0))
        return claim

    def _knows(self, attempt_id: AttemptId) -> bool:
        return attempt_id in self._running or attempt_id in self._awaiting_output or self._settler.has(attempt_id)

    def _end(self, claim: Claim, outcome: Outcome, output: Chunk | None, seconds: float) -> None:
        """Settle an attempt: at once, or when its output is written."""
        attempt_id, record = claim.attempt_id, claim.record
        verdict, outcome = decide(outcome, claim.policy, record), with_crash_count(outcome, record)
        noted, progress = self.notes.end(attempt_id)
        settlement = Settlement(claim, outcome, verdict, noted or claim.attempt > 1, progress, output)
        if self.logs.end(attempt_id):
            self._awaiting_output[attempt_id] = settlement, seconds
        else:
            self._settler.add(settlement, seconds)

    def _recorded(self, claim: Claim, outcome: Outcome, seconds: float) -> None:
        """Report an attempt that the task's own transaction has settled. Its last output may still have to be written."""
        self.notes.end(claim.attempt_id)
        if self.logs.end(claim.attempt_id):
            self._awaiting_output[claim.attempt_id] = None
        settlement = Settlement(claim, outcome, decide(outcome, claim.policy, claim.record))
        self.reporter.ended(settlement, seconds, logger().bind(), settled=True, unknown=False)

    def _output_written(self, attempt_id: AttemptId) -> None:
        """Settle an attempt that has ended: its last output is written."""
        ending = self._awaiting_output.pop(attempt_id, None)
        if ending is not None:
            self._settler.add(*ending)
        self._fewer.set()

    def _order(self, claim: Claim) -> Order:
        job, metadata = claim.job, self.reporter.metadata(claim)
        if metadata is not job.metadata:
            job = replace(job, metadata=metadata)
        return Order(job, claim.attempt, claim.crashes > 0, claim.checkpoint)
