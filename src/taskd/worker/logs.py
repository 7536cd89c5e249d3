"""What the running attempts log and print, on its way to PostgreSQL."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from taskd.domain.errors import Rejected, StoreUnavailable
from taskd.domain.fencing import Claim
from taskd.domain.output import Chunk, Line, Output
from taskd.runtime.log import logger
from taskd.runtime.pace import Pace
from taskd.seams import LogStore

#: The most bytes in one statement, and those that may wait altogether (while PostgreSQL is away, for instance).
BATCH_BYTES, MAX_WAITING = 4 * 1024 * 1024, 64 * 1024 * 1024
#: Seconds between tries while PostgreSQL is away.
OUTAGE = 0.5
LOST = "the last lines were left out: too much was waiting for PostgreSQL"

Key = tuple[int, int]


class PendingOutput:
    """What one attempt has said: what is to be written, and what of its last part is there to make way for newer."""

    __slots__ = ("claim", "ended", "fenced", "gone", "lost", "made_way", "size", "tail", "waiting")

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.waiting: deque[Chunk] = deque()
        #: The chunks of the last part, and their bytes.
        self.tail: deque[Chunk] = deque()
        self.size = 0
        #: The first line of the last part, and the first one of it that is still wanted; and whether those between are deleted.
        self.gone = 0, 0
        self.made_way = True
        #: The last chunk, if it was thrown away.
        self.lost: Chunk | None = None
        self.ended = False
        self.fenced = False


class LogWriter:
    """Writes what attempts say, of many of them in one statement. Who says nothing costs nothing.

    An attempt that has ended is settled once its words are written (or refused): a job that is final has all of them. What
    comes with an end, and follows nothing, waits there and is stored with it.

    Of an attempt at most `limit` bytes are kept: the first half stays, the second is the newest. While PostgreSQL is away no
    more than that waits, and MAX_WAITING of all of them.
    """

    def __init__(
        self, store: LogStore, running: Callable[[Key], Claim | None], written: Callable[[Key], None], limit: int
    ) -> None:
        self._store = store
        self._running = running
        self._written = written
        self._half = limit // 2
        self._said: dict[Key, PendingOutput] = {}
        self._unwritten: dict[Key, None] = {}
        #: Whose words are in the statement that is under way.
        self._writing: Collection[Key] = ()
        self._bytes = 0
        self._heard = asyncio.Event()

    def hear(self, chunk: Chunk) -> None:
        """An attempt has said something."""
        key = chunk.job_id, chunk.attempt
        said = self._said.get(key)
        if said is None:
            claim = self._running(key)
            if claim is None:
                return
            said = self._said[key] = PendingOutput(claim)
        if said.fenced:
            return
        if self._bytes + len(chunk.body) > MAX_WAITING:
            said.lost = chunk
            return
        said.lost = None
        self._keep(key, said, chunk)
        if chunk.tail:
            self._make_way(said, chunk)

    def speaks(self, key: Key) -> bool:
        """Whether the attempt has said something before its end."""
        return key in self._said

    def end(self, key: Key) -> bool:
        """The attempt has ended: whether it has said something that is not written yet; if so, `written` will be told."""
        said = self._said.get(key)
        if said is None:
            return False
        if said.lost is not None and not said.fenced:
            last = said.lost
            line = msgspec.json.decode(last.body, type=list[Line])[-1]
            told = msgspec.json.encode([Line(line.at, "taskd", "", LOST)])
            self._keep(key, said, Chunk(*key, last.last, 1, True, told))
        if (key in self._unwritten or key in self._writing) and not said.fenced:
            said.ended = True
            return True
        self._forget(key)
        return False

    def _keep(self, key: Key, said: PendingOutput, chunk: Chunk) -> None:
        said.waiting.append(chunk)
        self._bytes += len(chunk.body)
        self._unwritten[key] = None
        self._heard.set()

    def _make_way(self, said: PendingOutput, chunk: Chunk) -> None:
        """Let the oldest of the last part go, so far as the newest needs its room."""
        if not said.tail:
            said.gone = chunk.line, chunk.line
        said.tail.append(chunk)
        said.size += len(chunk.body)
        while said.size > self._half and len(said.tail) > 1:
            oldest = said.tail.popleft()
            said.size -= len(oldest.body)
            said.gone = said.gone[0], said.tail[0].line
            try:
                said.waiting.remove(oldest)
            except ValueError:
                said.made_way = False  # it is written, or about to be
            else:
                self._bytes -= len(oldest.body)

    def _forget(self, key: Key) -> None:
        said = self._said.pop(key, None)
        self._unwritten.pop(key, None)
        if said is not None:
            self._bytes -= sum(len(chunk.body) for chunk in said.waiting)

    async def add(self, late: Sequence[tuple[Claim, Chunk]]) -> None:
        """Write what was to be stored with ends, and was not, whatever it takes."""
        outputs = [Output(job_id=c.job_id, attempt=c.attempt, session=c.session, chunks=[chunk]) for c, chunk in late]
        while outputs:
            try:
                await self._store.write(outputs)
            except StoreUnavailable:
                await asyncio.sleep(OUTAGE)
            except Rejected as error:
                if len(late) > 1:
                    for one in late:
                        await self.add([one])
                else:
                    self._refused([(c.job_id, c.attempt) for c, _ in late], error)
                return
            else:
                return

    @staticmethod
    def _refused(keys: Collection[Key], error: Rejected) -> None:
        logger().error("PostgreSQL does not accept what an attempt has said", attempt=list(keys), error=str(error))

    async def write(self) -> None:
        """Write what is heard, until cancelled. While PostgreSQL is away it waits."""
        pace = Pace()
        while True:
            await self._heard.wait()
            await pace.turn()
            self._heard.clear()
            while self._unwritten:
                batch = self._take()
                self._writing = batch.keys()
                try:
                    await self._write(batch)
                except StoreUnavailable:
                    self._put_back(batch)
                    self._writing = ()
                    await asyncio.sleep(OUTAGE)
                self._writing = ()

    def _take(self) -> dict[Key, Output]:
        batch: dict[Key, Output] = {}
        size = 0
        while self._unwritten and size < BATCH_BYTES:
            key = next(iter(self._unwritten))
            del self._unwritten[key]
            said = self._said[key]
            chunks = list(said.waiting)
            said.waiting.clear()
            size += sum(len(chunk.body) for chunk in chunks)
            batch[key] = Output(
                job_id=key[0],
                attempt=key[1],
                session=said.claim.session,
                chunks=chunks,
                gone=(0, 0) if said.made_way else said.gone,
            )
            said.made_way = True
        return batch

    def _put_back(self, batch: Mapping[Key, Output]) -> None:
        for key, output in batch.items():
            said = self._said.get(key)
            if said is None:
                continue
            wanted = [c for c in output.chunks if not c.tail or c.line >= said.gone[1]]
            self._bytes -= sum(len(c.body) for c in output.chunks) - sum(len(c.body) for c in wanted)
            said.waiting.extendleft(reversed(wanted))
            said.made_way = said.made_way and output.gone == (0, 0)
            self._unwritten[key] = None

    async def _write(self, batch: dict[Key, Output]) -> None:
        """Write it. What is left in `batch` after a StoreUnavailable is not written."""
        try:
            kept = await self._store.write(list(batch.values()))
        except Rejected as error:
            if len(batch) > 1:
                while batch:
                    key = next(iter(batch))
                    await self._write({key: batch[key]})
                    del batch[key]
                return
            self._refused(batch, error)
            kept = set(batch)
        for key, output in batch.items():
            self._bytes -= sum(len(chunk.body) for chunk in output.chunks)
            said = self._said.get(key)
            if said is None:
                continue
            if key not in kept:
                said.fenced = True
                self._unwritten.pop(key, None)
            if said.ended and key not in self._unwritten:
                self._forget(key)
                self._written(key)
