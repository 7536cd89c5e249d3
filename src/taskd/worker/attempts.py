"""One attempt's way: claim -> execute -> settle, always as a batch."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence

from msgspec import Raw
from msgspec.structs import replace

from taskd.domain.errors import Rejected, StoreUnavailable, TransportUnavailable
from taskd.domain.fencing import Claim, Delivery, Session, Suspect
from taskd.domain.outcome import Completed, Failed, Outcome, Released
from taskd.domain.output import Chunk
from taskd.domain.retry import Again, decide, told
from taskd.runtime import meters
from taskd.runtime.failpoints import passed
from taskd.runtime.log import logger
from taskd.runtime.pace import Pace
from taskd.seams import Claims, Coordinator, LogStore, NoteStore, Order, Settlement, Transport
from taskd.worker.locks import AttemptLocks
from taskd.worker.logs import LogWriter
from taskd.worker.notes import NoteWriter
from taskd.worker.pool.pool import Ending, ExecutorPool
from taskd.worker.pool.protocol import Answer, LockRelease, LockRequest, NoteMessage, TaskMessage
from taskd.worker.rates import Rates
from taskd.worker.reporting import AttemptReporter

#: The most endings, and the most bytes of results and of what was said, in one settle statement.
BATCH, BATCH_BYTES = 500, 4 * 1024 * 1024
#: Seconds between tries while PostgreSQL is away.
OUTAGE = 0.25
#: How jobs end whose attempts may say something after that (log.sql).
LATE = ("cancelled", "completed")


class Attempts:
    """What this worker has claimed and not yet settled. Results wait here while PostgreSQL is away.

    They are bounded: nothing new is claimed while more endings wait than the worker has slots, or one batch.
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
    ) -> None:
        self._claims = claims
        self.notes = NoteWriter(notes, self._claim)
        self.logs = LogWriter(logs, self._claim, self._said_all, max_log_bytes)
        self._locks = AttemptLocks(coordinator, self._lock_lost, worker_id)
        self._transport = transport
        self._worker_id = worker_id
        self._bound = max(slots, BATCH)
        self._executors: ExecutorPool | None = None
        self._running: dict[tuple[int, int], tuple[Claim, float]] = {}
        self._endings: deque[tuple[Settlement, float]] = deque()
        #: Endings of attempts whose last words are not written yet; None for one that is settled already.
        self._speaking: dict[tuple[int, int], tuple[Settlement, float] | None] = {}
        self._ended = asyncio.Event()
        self._fewer = asyncio.Event()
        self._settling: set[tuple[int, int]] = set()
        self.rates = Rates()
        #: What came of them.
        self.telling = AttemptReporter(lambda: self._executors.tasks if self._executors is not None else ())

    def attach(self, executors: ExecutorPool) -> None:
        """Where the attempts run; its `on_end` is `ended`."""
        self._executors = executors

    @property
    def running(self) -> list[tuple[int, int]]:
        """The (job_id, attempt) of what user code is running now."""
        return list(self._running)

    @property
    def waits(self) -> dict[int, str]:
        """The locks that attempts wait for, by job."""
        return self._locks.waits

    @property
    def open(self) -> int:
        """How many claims are not settled yet."""
        return len(self._running) + len(self._speaking) + len(self._endings) + len(self._settling)

    async def accept(
        self, session: Session, deliveries: Sequence[Delivery], *, again: bool, alone: bool = False
    ) -> list[Suspect]:
        """Claim the deliveries and begin those that were won; those that are left and only run `alone`.

        Raises SessionLost, StoreUnavailable.
        """
        assert self._executors is not None
        await passed("claim.before")
        claims = await self._claims.claim(session, deliveries, again=again, alone=alone)
        meters.CLAIMED.inc(len(claims))
        if claims:
            await passed("claim.done")
        now = time.monotonic()
        won = [claim for claim in claims if not (again and self._knows(_key(claim)))]
        self._running.update({_key(claim): (claim, now) for claim in won})
        self.telling.begun(won)
        self._executors.begin([self._order(claim) for claim in won])
        claimed = {claim.job_id for claim in claims}
        refused = [delivery for delivery in deliveries if delivery.job_id not in claimed]
        suspects = await self._claims.suspects(refused) if refused else []
        meters.REFUSED.inc(len(refused) - len(suspects))
        return suspects

    async def put_off(self, session: Session, suspect: Suspect, delay: float) -> None:
        """Let another worker have a suspect, not before `delay` seconds. Raises StoreUnavailable."""
        await self._claims.put_off(session, suspect, delay)

    def hear(self, word: TaskMessage, reply: Callable[[Answer], None]) -> None:
        """What an attempt says or asks for while it runs."""
        match word:
            case NoteMessage():
                self.notes.hear(word, reply)
            case Chunk():
                self.logs.hear(word)
            case LockRequest():
                self._locks.take(word, reply)
            case LockRelease():
                self._locks.drop(word)

    def _lock_lost(self, key: tuple[int, int], name: str) -> None:
        assert self._executors is not None
        self._executors.stop(*key, Released(f"the lock {name!r} was lost"))

    def _claim(self, key: tuple[int, int]) -> Claim | None:
        claim, _ = self._running.get(key, (None, 0.0))
        return claim

    def _knows(self, key: tuple[int, int]) -> bool:
        if key in self._running or key in self._speaking or key in self._settling:
            return True
        return any(_key(s.claim) == key for s, _ in self._endings)

    def ended(self, endings: Sequence[Ending]) -> None:
        """The executors' report: these attempts' user code has stopped."""
        now = time.monotonic()
        for job_id, attempt, outcome, said in endings:
            recorded = isinstance(outcome, Completed) and outcome.recorded
            if said is not None and (recorded or self.logs.speaks((job_id, attempt))):
                self.logs.hear(said)  # it follows what may not be written yet, or its job is settled already
                said = None  # noqa: PLW2901
            claim, began = self._running.pop((job_id, attempt), (None, 0.0))
            self._locks.end((job_id, attempt))
            if claim is None:
                continue
            self.rates.ended[claim.queue] += 1
            if recorded:
                self._recorded(claim, outcome, now - began)
            else:
                self._end(claim, outcome, said, now - began)
        self._ended.set()
        self._fewer.set()

    def _end(self, claim: Claim, outcome: Outcome, said: Chunk | None, seconds: float) -> None:
        """An attempt is to be settled: at once, or when its words are written."""
        key = _key(claim)
        verdict, outcome = decide(outcome, claim.policy, claim.record), told(outcome, claim.record)
        noted, progress = self.notes.end(key)
        settlement = Settlement(claim, outcome, verdict, noted or claim.attempt > 1, progress, said)
        if self.logs.end(key):
            self._speaking[key] = settlement, seconds
        else:
            self._endings.append((settlement, seconds))

    def _recorded(self, claim: Claim, outcome: Outcome, seconds: float) -> None:
        """The task's own transaction has settled this attempt; its last words may still be on their way."""
        self.notes.end(_key(claim))
        if self.logs.end(_key(claim)):
            self._speaking[_key(claim)] = None
        settlement = Settlement(claim, outcome, decide(outcome, claim.policy, claim.record))
        self.telling.ended(settlement, seconds, logger().bind(), ours=True, unknown=False)

    def _said_all(self, key: tuple[int, int]) -> None:
        """The last words of an attempt that has ended are written."""
        ending = self._speaking.pop(key, None)
        if ending is not None:
            self._endings.append(ending)
            self._ended.set()
        self._fewer.set()

    async def caught_up(self) -> None:
        """Return when few enough endings wait to be settled."""
        while len(self._speaking) + len(self._endings) + len(self._settling) > self._bound:
            self._fewer.clear()
            await self._fewer.wait()

    async def idle(self) -> None:
        """Return when every claim is settled."""
        while self.open:
            self._fewer.clear()
            await self._fewer.wait()

    async def settle(self) -> None:
        """Settle what ends, until cancelled. A batch that PostgreSQL did not take is kept and tried again."""
        pace = Pace()
        while True:
            await self._ended.wait()
            await pace.turn()
            self._ended.clear()
            while self._endings:
                batch = self._take()
                self._settling = {_key(settlement.claim) for settlement, _ in batch}
                await self._settle(batch)
                self._settling = set()
                self._fewer.set()

    def _take(self) -> list[tuple[Settlement, float]]:
        taken: list[tuple[Settlement, float]] = []
        size = 0
        while self._endings and len(taken) < BATCH and size < BATCH_BYTES:
            taken.append(self._endings.popleft())
            outcome, said = taken[-1][0].outcome, taken[-1][0].said
            size += len(bytes(outcome.result)) if isinstance(outcome, Completed) else 0
            size += len(said.body) if said is not None else 0
        return taken

    async def _settle(self, batch: Sequence[tuple[Settlement, float]]) -> None:
        settled, unknown = await self._record([settlement for settlement, _ in batch])
        refused = {_key(settlement.claim) for settlement, _ in batch} - settled
        outcomes = await self._outcomes(refused) if refused else {}
        late = {key for key, fate in outcomes.items() if fate in LATE}
        await self.logs.add([(s.claim, s.said) for s, _ in batch if s.said is not None and _key(s.claim) in late])
        log = logger().bind()  # once: a logger is put together anew at each use
        for settlement, seconds in batch:
            key = _key(settlement.claim)
            fate = outcomes.get(key)
            if fate == "cancelled":
                self.telling.cancelled(settlement.claim, seconds, log)
            elif fate == "completed":  # by its own transaction, though we heard of a crash, say
                self._recorded(settlement.claim, Completed(Raw(b"null"), recorded=True), seconds)
            else:
                self.telling.ended(settlement, seconds, log, ours=key in settled, unknown=unknown)
        if any(isinstance(settlement.verdict, Again) for settlement, _ in batch):
            try:
                await self._transport.wake()
            except TransportUnavailable:
                return  # the leader's slow poll finds the retry

    async def _record(self, settlements: Sequence[Settlement]) -> tuple[set[tuple[int, int]], bool]:
        """Settle, whatever it takes; also tells whether an earlier try's answer was lost ("not ours" may then be our doing)."""
        unknown = False
        while True:
            try:
                await passed("settle.before")
                settled = await self._claims.settle(settlements)
                await passed("settle.done")
            except StoreUnavailable as error:
                unknown |= error.outcome_unknown
                await asyncio.sleep(OUTAGE)
            except Rejected as error:
                return await self._isolate(settlements, error), unknown
            else:
                return settled, unknown

    async def _outcomes(self, refused: Collection[tuple[int, int]]) -> dict[tuple[int, int], str]:
        """How those ended that were refused because their job was over. A statement of its own, for a cancel may have committed
        while the settle waited for it, and so be newer than what the settle saw."""
        while True:
            try:
                return await self._claims.outcomes(refused)
            except StoreUnavailable:
                await asyncio.sleep(OUTAGE)

    async def _isolate(self, settlements: Sequence[Settlement], error: Rejected) -> set[tuple[int, int]]:
        """PostgreSQL refuses one of these results: halve the batch until it stands alone, and fail that one."""
        if len(settlements) > 1:
            middle = len(settlements) // 2
            first, _ = await self._record(settlements[:middle])
            second, _ = await self._record(settlements[middle:])
            return first | second
        claim, said = settlements[0].claim, settlements[0].said
        if said is not None:  # perhaps that is what it does not accept
            await self.logs.add([(claim, said)])
            return (await self._record([replace(settlements[0], said=None)]))[0]
        outcome = Failed(f"PostgreSQL does not accept this result: {error}", permanent=True)
        recorded, _ = await self._record([Settlement(claim, outcome, decide(outcome, claim.policy, claim.record))])
        return recorded

    def _order(self, claim: Claim) -> Order:
        return Order(
            job_id=claim.job_id,
            attempt=claim.attempt,
            task=claim.task,
            queue=claim.queue,
            priority=claim.priority,
            payload=bytes(claim.payload),
            created_at=claim.created_at,
            schedule_at=claim.schedule_at,
            timeout=claim.timeout,
            metadata=self.telling.metadata(claim),
            max_retries=claim.policy.max_retries,
            failures=claim.record.failures,
            worker_id=self._worker_id,
            suspect=claim.record.crashes > 0,
            checkpoint=bytes(claim.checkpoint) if claim.checkpoint is not None else None,
        )


def _key(claim: Claim) -> tuple[int, int]:
    return claim.job_id, claim.attempt
