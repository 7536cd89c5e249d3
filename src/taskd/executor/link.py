"""An attempt's link to its worker, for its requests while it runs. Most attempts never use theirs."""

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

#: Seconds between two messages with one attempt's progress.
EVERY = 1.0
#: The most bytes of a progress's message.
MAX_MESSAGE = 500
#: Seconds: a longer wait for a lock has no end.
LONGEST_WAIT = 1e9
#: The exception that a task sees for a denial.
ERRORS: dict[Denial, type[Exception]] = {
    Denial.FENCED: ClaimLost,
    Denial.TOO_LATE: TimeoutError,
    Denial.NO_ETCD: CoordinatorUnavailable,
}


class WorkerLink:
    """1. Sends the latest progress, at once and then about once a second. 2. Sends checkpoints, and waits for the answer that
    they are stored. 3. Asks for locks, and releases them. 4. Lets the task complete its job in a transaction of its own.
    5. Shows that the attempt is to stop.

    Any thread may call; the loop's thread sends.
    """

    def __init__(
        self,
        order: Order,
        limit: int,
        loop: asyncio.AbstractEventLoop,
        send: Callable[[LinkMessage], None],
        connections: Callable[[], TaskConnections],
        encode: Encode | None = None,
        encode_checkpoint: Encode | None = None,
    ) -> None:
        self._transaction = AttemptTransaction(order, limit, connections, encode)
        self._encode_checkpoint = encode_checkpoint
        self._order = order
        self._limit = limit
        self._loop = loop
        self._send = send
        self._stop = threading.Event()
        self._unsent: bytes | None = None
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Future[int]] = {}
        self._closed = False
        #: True if the task looks at `cancelled`, so that it can be trusted to stop by itself.
        self.watched = False

    @property
    def cancelled(self) -> threading.Event:
        self.watched = True
        return self._stop

    def progress(self, fraction: float, message: str) -> None:
        if not 0 <= fraction <= 1:
            raise Unstorable(f"progress is a number from 0 to 1, not {fraction!r}")
        progress: dict[str, Any] = {"attempt": self._order.attempt, "fraction": float(fraction)}
        if message:
            progress["message"] = to_text(str(message), MAX_MESSAGE).decode()
        self._unsent = self._transaction.progress = msgspec.json.encode(progress)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon_threadsafe(self._send_progress)

    def checkpoint(self, value: Any) -> Future[int]:
        """Store a value for the next attempt; done when it is durable. Raises Unstorable, a ValueError that fails the job for
        good if the task lets it pass."""
        data = to_json(value, self._limit, "the checkpoint", self._encode_checkpoint)
        number, stored = next(self._numbers), Future[int]()
        note = NoteMessage(self._order.job_id, self._order.attempt, number, checkpoint=data)
        self._loop.call_soon_threadsafe(self._request, note, stored)
        return stored

    def lock(self, name: str, wait: float | None) -> tuple[int, Future[int]]:
        if not name or "\0" in name or len(name) > MAX_LOCK_NAME or (wait is not None and not wait >= 0):
            shown = name[:MAX_LOCK_NAME]
            raise ValueError(
                f"a lock has a name of at most {MAX_LOCK_NAME} characters, and a wait in seconds, not {shown!r} and {wait!r}"
            )
        if wait is not None and wait > LONGEST_WAIT:
            wait = None
        number, granted = next(self._numbers), Future[int]()
        request = LockRequest(self._order.job_id, self._order.attempt, number, name, wait)
        self._loop.call_soon_threadsafe(self._request, request, granted)
        return number, granted

    def unlock(self, number: int) -> None:
        self._loop.call_soon_threadsafe(self._release, number)

    @property
    def settled(self) -> bool:
        """True if the task has completed its job itself."""
        return self._transaction.over

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        return self._transaction.transaction()

    def transaction_sync(self) -> AbstractContextManager[Any]:
        return self._transaction.transaction_sync()

    def complete(self, value: Any) -> None:
        self._transaction.complete(value)

    def answer(self, answer: Answer) -> None:
        """Hand the worker's answer to the thread or coroutine that waits for it."""
        request = self._waiting.pop(answer.number, None)
        if request is None:
            return
        with contextlib.suppress(InvalidStateError):  # the wait was cancelled
            if answer.denial is None:
                request.set_result(answer.fence)
            else:
                request.set_exception(ERRORS[answer.denial](answer.text))

    def mark_cancelled(self) -> None:
        """Set `cancelled`: the attempt is to stop. A last checkpoint may still be stored."""
        self._stop.set()

    def stop(self) -> None:
        """Set `cancelled`, and cancel what waits for the worker. For the loop's thread only."""
        self.mark_cancelled()
        for request in self._waiting.values():
            request.cancel()

    def interrupt(self) -> None:
        """End what the thread of the attempt waits for in PostgreSQL: the thread is being stopped."""
        self._transaction.interrupt()

    def close(self) -> None:
        """Send the last progress: the attempt's code has ended."""
        self._closed = True
        self._stop.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._unsent is not None:
            self._send(NoteMessage(self._order.job_id, self._order.attempt, progress=self._unsent))

    def _send_progress(self) -> None:
        """Send the latest progress, and look again a little later, until there is nothing new."""
        if self._closed:
            return
        self._scheduled = False  # before the look: a progress that comes after it schedules the next one
        progress, self._unsent = self._unsent, None
        if progress is not None:
            self._scheduled = True
            self._send(NoteMessage(self._order.job_id, self._order.attempt, progress=progress))
            self._timer = self._loop.call_later(EVERY, self._send_progress)

    def _request(self, message: NoteMessage | LockRequest, answered: Future[int]) -> None:
        if self._closed or (isinstance(message, LockRequest) and self._stop.is_set()):
            answered.cancel()
            return
        self._waiting[message.number] = answered
        try:
            self._send(message)
        except TooLong as error:
            del self._waiting[message.number]
            answered.set_exception(ValueError(f"this cannot be sent to the worker: {error}"))

    def _release(self, number: int) -> None:
        self._waiting.pop(number, None)
        if not self._closed:
            self._send(LockRelease(self._order.job_id, self._order.attempt, number))
