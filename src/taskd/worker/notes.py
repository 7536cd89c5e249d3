"""What the running attempts say of themselves, on its way to PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from taskd.domain.errors import Rejected, StoreUnavailable
from taskd.domain.fencing import Claim, Note
from taskd.runtime.failpoints import passed
from taskd.runtime.log import logger
from taskd.runtime.pace import Pace
from taskd.seams import NoteStore
from taskd.worker.pool.protocol import Answer, Denial, NoteMessage

#: The most bytes of checkpoints in one statement.
BATCH_BYTES = 4 * 1024 * 1024
#: Seconds between tries while PostgreSQL is away.
OUTAGE = 0.5

Key = tuple[int, int]
Reply = Callable[[Answer], None]


class PendingNotes:
    """What an attempt has said since it was last written, and who waits for it to be stored."""

    __slots__ = ("checkpoint", "progress", "waiting")

    def __init__(self) -> None:
        self.progress: bytes | None = None
        self.checkpoint: bytes | None = None
        self.waiting: list[tuple[int, Reply]] = []

    def older(self, other: PendingNotes) -> None:
        """Take over what was said before and could not be written: what is newer counts."""
        self.progress = self.progress or other.progress
        self.checkpoint = self.checkpoint or other.checkpoint
        self.waiting = other.waiting + self.waiting


class NoteWriter:
    """Writes notes, those of many attempts in one statement; only the latest of each. Who says nothing costs nothing."""

    def __init__(self, store: NoteStore, running: Callable[[Key], Claim | None]) -> None:
        self._store = store
        self._running = running
        self._unwritten: dict[Key, PendingNotes] = {}
        #: The last progress of every attempt that has said anything and not ended.
        self._last: dict[Key, bytes | None] = {}
        self._heard = asyncio.Event()

    def hear(self, said: NoteMessage, reply: Reply) -> None:
        """An attempt says something. `reply` is told what became of a checkpoint."""
        key = said.job_id, said.attempt
        one = self._unwritten.setdefault(key, PendingNotes())
        if said.progress is not None:
            one.progress = said.progress
        if said.checkpoint is not None:
            one.checkpoint = said.checkpoint
            one.waiting.append((said.number, reply))
        self._last[key] = said.progress or self._last.get(key)
        self._heard.set()

    def end(self, key: Key) -> tuple[bool, bytes | None]:
        """The attempt has ended: whether it said anything, and its last progress."""
        if key not in self._last:
            return False, None
        self._unwritten.pop(key, None)
        return True, self._last.pop(key)

    async def write(self) -> None:
        """Write what is heard, until cancelled. While PostgreSQL is away it waits, and what is newer replaces it."""
        pace = Pace()
        while True:
            await self._heard.wait()
            await pace.turn()
            self._heard.clear()
            while self._unwritten:
                batch = self._take()
                try:
                    await self._write(batch)
                except StoreUnavailable:
                    self._put_back(batch)
                    await asyncio.sleep(OUTAGE)

    def _take(self) -> dict[Key, PendingNotes]:
        batch: dict[Key, PendingNotes] = {}
        size = 0
        while self._unwritten and size < BATCH_BYTES:
            key = next(iter(self._unwritten))
            batch[key] = one = self._unwritten.pop(key)
            size += len(one.checkpoint or b"")
        return batch

    def _put_back(self, batch: Mapping[Key, PendingNotes]) -> None:
        for key, one in batch.items():
            if key in self._last:
                self._unwritten.setdefault(key, PendingNotes()).older(one)

    async def _write(self, batch: Mapping[Key, PendingNotes]) -> None:
        notes = [_note(claim, one) for key, one in batch.items() if (claim := self._running(key)) is not None]
        if notes:
            await passed("note.before")
        try:
            kept = await self._store.write(notes) if notes else set()
        except Rejected as error:
            if len(batch) > 1:
                for key, one in batch.items():
                    await self._write({key: one})
                return
            logger().error("PostgreSQL does not accept what an attempt says", attempt=list(batch), error=str(error))
            kept = set()
        for key, one in batch.items():
            for number, reply in one.waiting:
                lost = None if key in kept else Denial.FENCED
                reply(
                    Answer(
                        *key,
                        number,
                        0,
                        lost,
                        f"job {key[0]} is not this attempt's any more" if lost is not None else "",
                    )
                )


def _note(claim: Claim, one: PendingNotes) -> Note:
    return Note(
        job_id=claim.job_id,
        attempt=claim.attempt,
        session=claim.session,
        progress=one.progress,
        checkpoint=one.checkpoint,
    )
