"""Intake of jobs: many requests share one INSERT.

This is group commit without a waiting window. A flush takes the jobs that are waiting as soon as the previous INSERT has
returned: an idle system stores a job at once, a busy one shares each commit among hundreds.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from taskd.domain.errors import Rejected, RowHeld, StoreUnavailable
from taskd.domain.job import JobSpec, Submitted
from taskd.runtime import meters
from taskd.runtime.failpoints import passed
from taskd.store.lane import ONE_PLANNING, Lane
from taskd.store.statements import statement

SUBMIT = statement("submit")
#: For a batch with a key that is kept apart by token or queue; every other batch is spared those columns and lookups.
SUBMIT_APART = statement("submit_apart")
#: The highest numbers of jobs and of bytes of payload in one INSERT.
FLUSH, FLUSH_BYTES = 500, 4 * 1024 * 1024
#: Jobs and bytes of payload that are encoded at once.
PIECE, PIECE_BYTES = 500, 1024 * 1024
#: Options of the lanes: a key that another transaction holds is waited for less long than a deadline.
#: Keys and jobs are looked up by primary key, whatever their tables held when the plan was made.
PATIENCE = {**ONE_PLANNING, "lock_timeout": "500ms", "enable_seqscan": "off", "enable_bitmapscan": "off"}
#: Seconds for which a key that another transaction held is not tried again.
HELD = 1.0


class _Waiting(NamedTuple):
    spec: JobSpec
    answer: asyncio.Future[Submitted]
    due: float


class PostgresIntake:
    """Implements `taskd.seams.Intake`. Calls `stored` after each commit, in the event loop: it wakes the dispatcher."""

    def __init__(self, single: Lane, bulk: Lane, *, deadline: float, stored: Callable[[], None]) -> None:
        self._single = single
        self._bulk = bulk
        self._deadline = deadline
        self._stored = stored
        self._waiting: deque[_Waiting] = deque()
        self._flusher: asyncio.Task[None] | None = None
        #: The entries without an answer, the oldest first, and one timer for all, for the oldest one's deadline.
        self._open: deque[_Waiting] = deque()
        self._watch: asyncio.TimerHandle | None = None
        #: The keys that another transaction held when they were tried last, and until when they are not tried again.
        self._held: dict[str, float] = {}

    async def submit(self, spec: JobSpec) -> Submitted:
        if self._held and time.monotonic() < self._held.get(_key(spec), 0.0):
            raise _held()
        loop = asyncio.get_running_loop()
        entry = _Waiting(spec, loop.create_future(), loop.time() + self._deadline)
        self._waiting.append(entry)
        self._open.append(entry)
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())
        if self._watch is None:
            self._watch = loop.call_at(entry.due, self._expire)
        return await entry.answer

    async def submit_many(self, specs: Sequence[JobSpec]) -> list[Submitted]:
        answers = await _insert(self._bulk, specs, deadline=self._deadline + len(specs) / 1000)
        self._stored()
        return answers

    def _expire(self) -> None:
        """Answer the entries whose deadline is over, and set the timer for the next."""
        loop = asyncio.get_running_loop()
        text = f"PostgreSQL did not answer within {self._deadline:g} s, so the job may have been stored or not"
        while self._open and (self._open[0].answer.done() or self._open[0].due <= loop.time()):
            _answer(self._open.popleft(), StoreUnavailable(text, outcome_unknown=True, shown=True))
        self._watch = loop.call_at(self._open[0].due, self._expire) if self._open else None

    async def _flush(self) -> None:
        while self._waiting:
            batch = [e for e in self._take() if not e.answer.done()]
            if batch:
                await self._store(batch)
            while self._open and self._open[0].answer.done():
                self._open.popleft()  # at once, not only by the timer: a payload may be large

    def _take(self) -> Sequence[_Waiting]:
        batch: list[_Waiting] = []
        size = 0
        while self._waiting and len(batch) < FLUSH and size < FLUSH_BYTES:
            batch.append(self._waiting.popleft())
            size += len(bytes(batch[-1].spec.payload))
        return batch

    async def _store(self, batch: Sequence[_Waiting]) -> None:
        try:
            answers = await _insert(self._single, [e.spec for e in batch])
        except Rejected as error:
            await self._isolate(batch, error)
        except RowHeld as error:
            await self._sort_out(batch, error)
        except Exception as error:  # noqa: BLE001  any failure is the answer to the requests that wait
            for entry in batch:
                _answer(entry, error)
        else:
            for entry, submitted in zip(batch, answers, strict=True):
                _answer(entry, submitted)
            self._stored()

    async def _isolate(self, batch: Sequence[_Waiting], error: Rejected) -> None:
        """Halve a batch with a bad job until that job stands alone, so that the others are stored."""
        if len(batch) == 1:
            _answer(batch[0], error)
            return
        middle = len(batch) // 2
        await self._store(batch[:middle])
        await self._store(batch[middle:])

    async def _sort_out(self, batch: Sequence[_Waiting], error: RowHeld) -> None:
        """Halve a batch of which another transaction holds a dedupe_key. The jobs without a key go first."""
        free = [e for e in batch if e.spec.dedupe_key is None]
        keyed = [e for e in batch if e.spec.dedupe_key is not None]
        if not keyed:  # the other transaction holds something else: a whole table, say
            for entry in batch:
                _answer(entry, error)
            return
        if len(batch) == 1:
            self._remember(keyed[0])
            return
        middle = (len(keyed) + 1) // 2
        for part in (free, keyed[:middle], keyed[middle:]):
            if part:
                await self._store(part)

    def _remember(self, entry: _Waiting) -> None:
        now = time.monotonic()
        self._held = {key: until for key, until in self._held.items() if until > now}
        self._held[_key(entry.spec)] = now + HELD
        _answer(entry, _held())


def _key(spec: JobSpec) -> str:
    return spec.own_key or spec.dedupe_key or ""


def _held() -> StoreUnavailable:
    return StoreUnavailable(
        "another transaction holds this dedupe_key and has not ended, so it is not known yet whether the key is taken",
        shown=True,
    )


def _answer(entry: _Waiting, answer: Submitted | Exception) -> None:
    if entry.answer.done():
        return
    if isinstance(answer, Exception):
        entry.answer.set_exception(answer)
    else:
        entry.answer.set_result(answer)


async def _document(specs: Sequence[JobSpec]) -> str:
    """Return the jobs as both statements read them. Yields to the event loop after PIECE jobs or PIECE_BYTES of payload."""
    pieces: list[bytes] = []
    piece: list[JobSpec] = []
    size = 0
    for spec in specs:
        piece.append(spec)
        size += len(bytes(spec.payload))
        if len(piece) >= PIECE or size >= PIECE_BYTES:
            pieces.append(msgspec.json.encode(piece)[1:-1])
            piece, size = [], 0
            await asyncio.sleep(0)
    if piece:
        pieces.append(msgspec.json.encode(piece)[1:-1])
    return (b"[%b]" % b",".join(pieces)).decode()


async def _insert(lane: Lane, specs: Sequence[JobSpec], deadline: float | None = None) -> list[Submitted]:
    document = await _document(specs)
    apart = any(spec.former_key is not None for spec in specs)
    with meters.timed(meters.SUBMIT):
        rows = await lane.fetch(SUBMIT_APART if apart else SUBMIT, {"jobs": document}, deadline=deadline)
    await passed("submit.stored")
    submitted = [Submitted(*row) for row in rows]
    duplicates = sum(answer.duplicate for answer in submitted)
    meters.SUBMITTED.inc(len(submitted) - duplicates)
    meters.DUPLICATES.inc(duplicates)
    return submitted
