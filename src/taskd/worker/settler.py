"""Records the ends of attempts in PostgreSQL, in batches, until each is recorded or refused."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence

from msgspec import Raw
from msgspec.structs import replace

from taskd.domain.errors import Rejected, StoreUnavailable, TransportUnavailable
from taskd.domain.job import AttemptId
from taskd.domain.outcome import Completed, Failed
from taskd.domain.retry import Again, decide
from taskd.runtime.failpoints import passed
from taskd.runtime.log import logger
from taskd.seams import Claims, Settlement, Transport
from taskd.worker.batches import BatchWriter
from taskd.worker.logs import LogWriter
from taskd.worker.reporting import AttemptReporter

#: The most ends, and the most bytes of results and output, in one settle statement.
BATCH, BATCH_BYTES = 500, 4 * 1024 * 1024
#: Seconds between tries while PostgreSQL is away.
OUTAGE = 0.25
#: How jobs end whose attempts may have output stored after that (log.sql).
LATE = ("cancelled", "completed")

#: A settlement, and the seconds that its attempt took.
Ending = tuple[Settlement, float]


class Settler:
    """Settles ends. A batch that PostgreSQL did not take is kept and tried again.

    An end that PostgreSQL refuses for what is in it is found by halving the batch; that job fails. `on_settled` is called
    after each batch.
    """

    def __init__(
        self,
        claims: Claims,
        logs: LogWriter,
        transport: Transport,
        reporter: AttemptReporter,
        on_settled: Callable[[], None],
    ) -> None:
        self._claims = claims
        self._logs = logs
        self._transport = transport
        self._reporter = reporter
        self._on_settled = on_settled
        self._endings: deque[Ending] = deque()
        #: The attempts of the batch that is being settled.
        self._settling: set[AttemptId] = set()
        self._writer = BatchWriter(self._take, self._settle_batch)

    @property
    def open(self) -> int:
        """The number of ends that are not settled yet."""
        return len(self._endings) + len(self._settling)

    def has(self, attempt_id: AttemptId) -> bool:
        """Return whether this attempt's end is not settled yet."""
        return attempt_id in self._settling or any(s.claim.attempt_id == attempt_id for s, _ in self._endings)

    def add(self, settlement: Settlement, seconds: float) -> None:
        """Settle an attempt that took so many seconds."""
        self._endings.append((settlement, seconds))
        self._writer.wake()

    async def run(self) -> None:
        """Settle until cancelled."""
        await self._writer.run()

    def _take(self) -> list[Ending]:
        batch: list[Ending] = []
        size = 0
        while self._endings and len(batch) < BATCH and size < BATCH_BYTES:
            batch.append(self._endings.popleft())
            outcome, output = batch[-1][0].outcome, batch[-1][0].output
            size += len(bytes(outcome.result)) if isinstance(outcome, Completed) else 0
            size += len(output.body) if output is not None else 0
        return batch

    async def _settle_batch(self, batch: Sequence[Ending]) -> None:
        self._settling = {settlement.claim.attempt_id for settlement, _ in batch}
        await self._settle(batch)
        self._settling = set()
        self._on_settled()

    async def _settle(self, batch: Sequence[Ending]) -> None:
        settled, unknown = await self._record([settlement for settlement, _ in batch])
        refused = self._settling - settled
        outcomes = await self._outcomes(refused) if refused else {}
        late = {attempt_id for attempt_id, outcome in outcomes.items() if outcome in LATE}
        if late:
            outputs = [(s.claim, s.output) for s, _ in batch if s.output is not None and s.claim.attempt_id in late]
            await self._logs.write_late(outputs)
        self._report(batch, settled, outcomes, unknown=unknown)
        if any(isinstance(settlement.verdict, Again) for settlement, _ in batch):
            try:
                await self._transport.wake()
            except TransportUnavailable:
                return  # the leader's slow poll finds the retry

    def _report(
        self, batch: Sequence[Ending], settled: set[AttemptId], outcomes: dict[AttemptId, str], *, unknown: bool
    ) -> None:
        log = logger().bind()  # once: a logger is put together anew at each use
        for settlement, seconds in batch:
            claim = settlement.claim
            attempt_id = claim.attempt_id
            outcome = outcomes.get(attempt_id)
            if outcome == "cancelled":
                self._reporter.cancelled(claim, seconds, log)
            elif outcome == "completed":  # by the task's own transaction, though the worker saw a crash, say
                completed = Completed(Raw(b"null"), recorded=True)
                recorded = Settlement(claim, completed, decide(completed, claim.policy, claim.record))
                self._reporter.ended(recorded, seconds, log, settled=True, unknown=False)
            else:
                self._reporter.ended(settlement, seconds, log, settled=attempt_id in settled, unknown=unknown)

    async def _record(self, settlements: Sequence[Settlement]) -> tuple[set[AttemptId], bool]:
        """Settle, however long it takes. Return the attempts that were settled, and whether the answer to a try was lost: then
        a refused end may have been recorded by that try."""
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
                return await self._find_rejected(settlements, error), unknown
            else:
                return settled, unknown

    async def _outcomes(self, refused: Collection[AttemptId]) -> dict[AttemptId, str]:
        """Return how those attempts ended that were refused because their job was over.

        This is a statement of its own: a cancel may have committed while the settle waited for it, and so be newer than what
        the settle saw.
        """
        while True:
            try:
                return await self._claims.outcomes(refused)
            except StoreUnavailable:
                await asyncio.sleep(OUTAGE)

    async def _find_rejected(self, settlements: Sequence[Settlement], error: Rejected) -> set[AttemptId]:
        """Halve a batch of which PostgreSQL refuses one end, until that one is alone, and fail its job. Return the settled."""
        if len(settlements) > 1:
            middle = len(settlements) // 2
            first, _ = await self._record(settlements[:middle])
            second, _ = await self._record(settlements[middle:])
            return first | second
        claim, output = settlements[0].claim, settlements[0].output
        if output is not None:  # it may be the output that PostgreSQL does not accept
            await self._logs.write_late([(claim, output)])
            return (await self._record([replace(settlements[0], output=None)]))[0]
        outcome = Failed(f"PostgreSQL does not accept this result: {error}", permanent=True)
        recorded, _ = await self._record([Settlement(claim, outcome, decide(outcome, claim.policy, claim.record))])
        return recorded
