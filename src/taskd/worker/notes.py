"""Progress and checkpoints of running attempts, on their way to PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from taskd.domain.errors import Rejected, StoreUnavailable
from taskd.domain.fencing import Claim, Note
from taskd.domain.job import AttemptId
from taskd.runtime.failpoints import passed
from taskd.runtime.log import logger
from taskd.seams import NoteStore
from taskd.worker.batches import BatchWriter
from taskd.worker.pool.protocol import Answer, Denial, NoteMessage

#: The most bytes of checkpoints in one statement.
BATCH_BYTES = 4 * 1024 * 1024
#: Seconds between tries while PostgreSQL is away.
OUTAGE = 0.5

Reply = Callable[[Answer], None]


class PendingNotes:
    """An attempt's notes since the last write, and the requests that wait for the checkpoint to be stored."""

    __slots__ = ("checkpoint", "progress", "waiting")

    def __init__(self) -> None:
        self.progress: bytes | None = None
        self.checkpoint: bytes | None = None
        self.waiting: list[tuple[int, Reply]] = []

    def merge_older(self, older: PendingNotes) -> None:
        """Take over earlier notes that could not be written; the newer value of each counts."""
        self.progress = self.progress or older.progress
        self.checkpoint = self.checkpoint or older.checkpoint
        self.waiting = older.waiting + self.waiting


class NoteWriter:
    """Writes notes, those of many attempts in one statement, and only the latest of each. An attempt without notes costs
    nothing."""

    def __init__(self, store: NoteStore, running: Callable[[AttemptId], Claim | None]) -> None:
        self._store = store
        self._running = running
        self._unwritten: dict[AttemptId, PendingNotes] = {}
        #: The last progress of every attempt that has sent a note and not ended.
        self._last: dict[AttemptId, bytes | None] = {}
        self._writer = BatchWriter(self._take, self._write_or_keep)

    def add(self, note: NoteMessage, reply: Reply) -> None:
        """Take a note of an attempt. `reply` gets the answer to a checkpoint."""
        attempt_id = note.attempt_id
        pending = self._unwritten.setdefault(attempt_id, PendingNotes())
        if note.progress is not None:
            pending.progress = note.progress
        if note.checkpoint is not None:
            pending.checkpoint = note.checkpoint
            pending.waiting.append((note.number, reply))
        self._last[attempt_id] = note.progress or self._last.get(attempt_id)
        self._writer.wake()

    def end(self, attempt_id: AttemptId) -> tuple[bool, bytes | None]:
        """Forget an attempt that has ended. Return whether it sent any note, and its last progress."""
        if attempt_id not in self._last:
            return False, None
        self._unwritten.pop(attempt_id, None)
        return True, self._last.pop(attempt_id)

    async def write(self) -> None:
        """Write notes until cancelled. While PostgreSQL is away they wait, and newer ones replace them."""
        await self._writer.run()

    def _take(self) -> dict[AttemptId, PendingNotes]:
        batch: dict[AttemptId, PendingNotes] = {}
        size = 0
        while self._unwritten and size < BATCH_BYTES:
            attempt_id = next(iter(self._unwritten))
            batch[attempt_id] = pending = self._unwritten.pop(attempt_id)
            size += len(pending.checkpoint or b"")
        return batch

    async def _write_or_keep(self, batch: Mapping[AttemptId, PendingNotes]) -> None:
        try:
            await self._write(batch)
        except StoreUnavailable:
            for attempt_id, pending in batch.items():
                if attempt_id in self._last:
                    self._unwritten.setdefault(attempt_id, PendingNotes()).merge_older(pending)
            await asyncio.sleep(OUTAGE)

    async def _write(self, batch: Mapping[AttemptId, PendingNotes]) -> None:
        notes = [_note(claim, pending) for id_, pending in batch.items() if (claim := self._running(id_)) is not None]
        if notes:
            await passed("note.before")
        try:
            written = await self._store.write(notes) if notes else set()
        except Rejected as error:
            if len(batch) > 1:
                for attempt_id, pending in batch.items():
                    await self._write({attempt_id: pending})
                return
            logger().error("PostgreSQL does not accept the notes of an attempt", attempt=list(batch), error=str(error))
            written = set()
        for attempt_id, pending in batch.items():
            denial = None if attempt_id in written else Denial.FENCED
            text = "" if denial is None else f"job {attempt_id.job_id} is not this attempt's any more"
            for number, reply in pending.waiting:
                reply(Answer(*attempt_id, number, 0, denial, text))


def _note(claim: Claim, pending: PendingNotes) -> Note:
    return Note(
        job_id=claim.job_id,
        attempt=claim.attempt,
        session=claim.session,
        progress=pending.progress,
        checkpoint=pending.checkpoint,
    )
