"""An attempt's link to its worker, for what the task says while it runs. Most attempts never use theirs."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

import msgspec

from taskd.domain.errors import ClaimLost, CoordinatorUnavailable, Unstorable
from taskd.domain.storable import Encode, to_json
from taskd.executor.attempt_transaction import AttemptTransaction
from taskd.executor.results import to_text
from taskd.seams import Order, TaskConnections
from taskd.worker.pool.protocol import (
    MAX_LOCK_NAME,
    Answer,
    Denial,
    LinkMessage,
    LockRelease,
    LockRequest,
    NoteMessage,
    TooLong,
)

#: Seconds between two tellings of one attempt's progress.
EVERY = 1.0
#: Bytes of a progress's message.
MAX_MESSAGE = 500
#: Seconds: a longer wait for a lock has no end.
LONGEST_WAIT = 1e9
#: What a task is told by.
ERRORS: dict[Denial, type[Exception]] = {
    Denial.FENCED: ClaimLost,
    Denial.TOO_LATE: TimeoutError,
    Denial.NO_ETCD: CoordinatorUnavailable,
}


class WorkerLink:
    """1. Tells the latest progress, at once and then about once a second. 2. Hands checkpoints over, and waits for the word
    that they are stored. 3. Asks for locks, and lets go of them. 4. Lets the task complete its job in a transaction of its own.
    5. Shows that the attempt is to stop.

    Any thread may call; the loop's own does the telling.
    """

    def __init__(
        self,
        order: Order,
        limit: int,
        loop: asyncio.AbstractEventLoop,
        tell: Callable[[LinkMessage], None],
        desk: Callable[[], TaskConnections],
        encode: Encode | None = None,
        encode_checkpoint: Encode | None = None,
    ) -> None:
        self._settling = AttemptTransaction(order, limit, desk, encode)
        self._encode_checkpoint = encode_checkpoint
        self._order = order
        self._limit = limit
        self._loop = loop
        self._tell = tell
        self._stop = threading.Event()
        self._latest: bytes | None = None
        self._due = False
        self._timer: asyncio.TimerHandle | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Future[int]] = {}
        self._closed = False
        #: True if the task looks at `cancelled`, so that it can be trusted to stop by itself.
        self.watched = False

    @property
    def cancelled(self) -> threading.Event:
        """Set when the attempt is to stop."""
        self.watched = True
        return self._stop

    def progress(self, fraction: float, message: str) -> None:
        """Tell how far the task is. Raises Unstorable (a ValueError) for what is no fraction."""
        if not 0 <= fraction <= 1:
            raise Unstorable(f"progress is a number from 0 to 1, not {fraction!r}")
        said: dict[str, Any] = {"attempt": self._order.attempt, "fraction": float(fraction)}
        if message:
            said["message"] = to_text(str(message), MAX_MESSAGE).decode()
        self._latest = self._settling.progress = msgspec.json.encode(said)
        if not self._due:
            self._due = True
            self._loop.call_soon_threadsafe(self._tell_progress)

    def checkpoint(self, value: Any) -> Future[int]:
        """Store a value for the next attempt; done when it is durable. Raises Unstorable, a ValueError that fails the job for
        good if the task lets it pass."""
        data = to_json(value, self._limit, "the checkpoint", self._encode_checkpoint)
        number, stored = next(self._numbers), Future[int]()
        said = NoteMessage(self._order.job_id, self._order.attempt, number, checkpoint=data)
        self._loop.call_soon_threadsafe(self._ask, said, stored)
        return stored

    def lock(self, name: str, wait: float | None) -> tuple[int, Future[int]]:
        """Ask for a lock; the number to let go of it, and its fence once it is held. Raises ValueError for what is no name."""
        if not name or "\0" in name or len(name) > MAX_LOCK_NAME or (wait is not None and not wait >= 0):
            shown = name[:MAX_LOCK_NAME]
            raise ValueError(
                f"a lock has a name of at most {MAX_LOCK_NAME} characters, and a wait in seconds, not {shown!r} and {wait!r}"
            )
        if wait is not None and wait > LONGEST_WAIT:
            wait = None
        number, granted = next(self._numbers), Future[int]()
        wanted = LockRequest(self._order.job_id, self._order.attempt, number, name, wait)
        self._loop.call_soon_threadsafe(self._ask, wanted, granted)
        return number, granted

    def unlock(self, number: int) -> None:
        """Let go of a lock, or wait for it no longer."""
        self._loop.call_soon_threadsafe(self._let_go, number)

    @property
    def settled(self) -> bool:
        """Whether the task has completed its job itself."""
        return self._settling.over

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """A transaction that completes the job, for an async task."""
        return self._settling.transaction()

    def transaction_sync(self) -> AbstractContextManager[Any]:
        """A transaction that completes the job, for a plain one."""
        return self._settling.transaction_sync()

    def complete(self, value: Any) -> None:
        """What the result is to be."""
        self._settling.complete(value)

    def answer(self, answer: Answer) -> None:
        """The worker's word about something that was asked for."""
        asked = self._waiting.pop(answer.number, None)
        if asked is None:
            return
        with contextlib.suppress(InvalidStateError):  # who waited was stopped
            if answer.trouble is None:
                asked.set_result(answer.fence)
            else:
                asked.set_exception(ERRORS[answer.trouble](answer.text))

    def mark(self) -> None:
        """The attempt is to stop: whoever looks at `cancelled` sees it. A last checkpoint may still be stored."""
        self._stop.set()

    def stop(self) -> None:
        """The attempt is to stop: let go who waits for the worker. For the loop's thread only."""
        self.mark()
        for asked in self._waiting.values():
            asked.cancel()

    def interrupt(self) -> None:
        """The thread of the attempt is being stopped: end what it waits for in PostgreSQL."""
        self._settling.interrupt()

    def close(self) -> None:
        """The attempt's code has ended: what it said last is told now."""
        self._closed = True
        self._stop.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._latest is not None:
            self._tell(NoteMessage(self._order.job_id, self._order.attempt, progress=self._latest))

    def _tell_progress(self) -> None:
        """Tell the latest, and look again a little later, until there is nothing new."""
        if self._closed:
            return
        self._due = False  # before the look: what comes after it makes the next one due
        value, self._latest = self._latest, None
        if value is not None:
            self._due = True
            self._tell(NoteMessage(self._order.job_id, self._order.attempt, progress=value))
            self._timer = self._loop.call_later(EVERY, self._tell_progress)

    def _ask(self, word: NoteMessage | LockRequest, asked: Future[int]) -> None:
        if self._closed or (isinstance(word, LockRequest) and self._stop.is_set()):
            asked.cancel()
            return
        self._waiting[word.number] = asked
        try:
            self._tell(word)
        except TooLong as error:
            del self._waiting[word.number]
            asked.set_exception(ValueError(f"this cannot be told to the worker: {error}"))

    def _let_go(self, number: int) -> None:
        self._waiting.pop(number, None)
        if not self._closed:
            self._tell(LockRelease(self._order.job_id, self._order.attempt, number))
