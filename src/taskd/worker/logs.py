"""The output of running attempts (log and standard streams), on its way to PostgreSQL."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from taskd.domain.errors import Rejected, StoreUnavailable
from taskd.domain.fencing import Claim
from taskd.domain.job import AttemptId
from taskd.domain.output import Chunk, Line, Output
from taskd.runtime.log import logger
from taskd.seams import LogStore
from taskd.worker.batches import BatchWriter

#: The most bytes in one statement, and those that may wait altogether (while PostgreSQL is away, for instance).
BATCH_BYTES, MAX_WAITING = 4 * 1024 * 1024, 64 * 1024 * 1024
#: Seconds between tries while PostgreSQL is away.
OUTAGE = 0.5
LOST = "the last lines were left out: too much was waiting for PostgreSQL"


class PendingOutput:
    """One attempt's output: the chunks that wait to be written, and the last part, where old chunks make way for newer ones."""

    __slots__ = ("claim", "ended", "fenced", "gone", "lost", "pruned", "size", "tail", "waiting")

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.waiting: deque[Chunk] = deque()
        #: The chunks of the last part, and their bytes.
        self.tail: deque[Chunk] = deque()
        self.size = 0
        #: The first line of the last part, and the first one of it that is still wanted.
        self.gone = 0, 0
        #: True if no stored line lies between these two.
        self.pruned = True
        #: The last chunk, if it was thrown away.
        self.lost: Chunk | None = None
        self.ended = False
        self.fenced = False


class LogWriter:
    """Writes output, that of many attempts in one statement. An attempt without output costs nothing.

    An attempt that has ended is settled once its output is written (or refused): a job that is final has all of it. Output
    that comes with an end, and follows nothing unwritten, is stored with that end.

    Of an attempt at most `limit` bytes are kept: the first half stays, the second half is the newest. While PostgreSQL is away
    no more than that waits, and MAX_WAITING of all attempts together.
    """

    def __init__(
        self,
        store: LogStore,
        running: Callable[[AttemptId], Claim | None],
        on_written: Callable[[AttemptId], None],
        limit: int,
    ) -> None:
        self._store = store
        self._running = running
        self._on_written = on_written
        self._half = limit // 2
        self._outputs: dict[AttemptId, PendingOutput] = {}
        self._unwritten: dict[AttemptId, None] = {}
        #: The attempts whose output is in the statement that is under way.
        self._writing: Collection[AttemptId] = ()
        self._bytes = 0
        self._writer = BatchWriter(self._take, self._write_or_keep)

    def add(self, chunk: Chunk) -> None:
        """Take a chunk of an attempt's output."""
        attempt_id = chunk.attempt_id
        output = self._outputs.get(attempt_id)
        if output is None:
            claim = self._running(attempt_id)
            if claim is None:
                return
            output = self._outputs[attempt_id] = PendingOutput(claim)
        if output.fenced:
            return
        if self._bytes + len(chunk.body) > MAX_WAITING:
            output.lost = chunk
            return
        output.lost = None
        self._keep(attempt_id, output, chunk)
        if chunk.tail:
            self._prune_tail(output, chunk)

    def has_output(self, attempt_id: AttemptId) -> bool:
        """Return whether the attempt has sent output before its end."""
        return attempt_id in self._outputs

    def end(self, attempt_id: AttemptId) -> bool:
        """Take the end of an attempt. Return whether output of it is not written yet; if so, `on_written` is called later."""
        output = self._outputs.get(attempt_id)
        if output is None:
            return False
        if output.lost is not None and not output.fenced:
            last = output.lost
            line = msgspec.json.decode(last.body, type=list[Line])[-1]
            notice = msgspec.json.encode([Line(line.at, "taskd", "", LOST)])
            self._keep(attempt_id, output, Chunk(*attempt_id, last.last, 1, True, notice))
        if (attempt_id in self._unwritten or attempt_id in self._writing) and not output.fenced:
            output.ended = True
            return True
        self._forget(attempt_id)
        return False

    async def write(self) -> None:
        """Write output until cancelled. While PostgreSQL is away it waits."""
        await self._writer.run()

    async def write_late(self, late: Sequence[tuple[Claim, Chunk]]) -> None:
        """Write output that was to be stored with ends, and was not, however long it takes."""
        outputs = [Output(job_id=c.job_id, attempt=c.attempt, session=c.session, chunks=[chunk]) for c, chunk in late]
        while outputs:
            try:
                await self._store.write(outputs)
            except StoreUnavailable:
                await asyncio.sleep(OUTAGE)
            except Rejected as error:
                if len(late) > 1:
                    for pair in late:
                        await self.write_late([pair])
                else:
                    self._log_refused([claim.attempt_id for claim, _ in late], error)
                return
            else:
                return

    def _keep(self, attempt_id: AttemptId, output: PendingOutput, chunk: Chunk) -> None:
        output.waiting.append(chunk)
        self._bytes += len(chunk.body)
        self._unwritten[attempt_id] = None
        self._writer.wake()

    def _prune_tail(self, output: PendingOutput, chunk: Chunk) -> None:
        """Add a chunk to the last part, and drop the oldest ones of it if the newest need their room."""
        if not output.tail:
            output.gone = chunk.line, chunk.line
        output.tail.append(chunk)
        output.size += len(chunk.body)
        while output.size > self._half and len(output.tail) > 1:
            oldest = output.tail.popleft()
            output.size -= len(oldest.body)
            output.gone = output.gone[0], output.tail[0].line
            try:
                output.waiting.remove(oldest)
            except ValueError:
                output.pruned = False  # it is written, or about to be
            else:
                self._bytes -= len(oldest.body)

    def _forget(self, attempt_id: AttemptId) -> None:
        output = self._outputs.pop(attempt_id, None)
        self._unwritten.pop(attempt_id, None)
        if output is not None:
            self._bytes -= sum(len(chunk.body) for chunk in output.waiting)

    @staticmethod
    def _log_refused(attempts: Collection[AttemptId], error: Rejected) -> None:
        logger().error("PostgreSQL does not accept the output of an attempt", attempt=list(attempts), error=str(error))

    def _take(self) -> dict[AttemptId, Output]:
        batch: dict[AttemptId, Output] = {}
        size = 0
        while self._unwritten and size < BATCH_BYTES:
            attempt_id = next(iter(self._unwritten))
            del self._unwritten[attempt_id]
            output = self._outputs[attempt_id]
            chunks = list(output.waiting)
            output.waiting.clear()
            size += sum(len(chunk.body) for chunk in chunks)
            batch[attempt_id] = Output(
                job_id=attempt_id.job_id,
                attempt=attempt_id.attempt,
                session=output.claim.session,
                chunks=chunks,
                gone=(0, 0) if output.pruned else output.gone,
            )
            output.pruned = True
        return batch

    async def _write_or_keep(self, batch: dict[AttemptId, Output]) -> None:
        self._writing = batch.keys()
        try:
            await self._write(batch)
        except StoreUnavailable:
            self._put_back(batch)
            self._writing = ()
            await asyncio.sleep(OUTAGE)
        self._writing = ()

    def _put_back(self, batch: Mapping[AttemptId, Output]) -> None:
        for attempt_id, unwritten in batch.items():
            output = self._outputs.get(attempt_id)
            if output is None:
                continue
            wanted = [chunk for chunk in unwritten.chunks if not chunk.tail or chunk.line >= output.gone[1]]
            self._bytes -= sum(len(c.body) for c in unwritten.chunks) - sum(len(c.body) for c in wanted)
            output.waiting.extendleft(reversed(wanted))
            output.pruned = output.pruned and unwritten.gone == (0, 0)
            self._unwritten[attempt_id] = None

    async def _write(self, batch: dict[AttemptId, Output]) -> None:
        """Write a batch. After a StoreUnavailable, `batch` has the part that is not written."""
        try:
            held = await self._store.write(list(batch.values()))
        except Rejected as error:
            if len(batch) > 1:
                while batch:
                    attempt_id = next(iter(batch))
                    await self._write({attempt_id: batch[attempt_id]})
                    del batch[attempt_id]
                return
            self._log_refused(batch, error)
            held = set(batch)
        for attempt_id, written in batch.items():
            self._bytes -= sum(len(chunk.body) for chunk in written.chunks)
            output = self._outputs.get(attempt_id)
            if output is None:
                continue
            if attempt_id not in held:
                output.fenced = True
                self._unwritten.pop(attempt_id, None)
            if output.ended and attempt_id not in self._unwritten:
                self._forget(attempt_id)
                self._on_written(attempt_id)
