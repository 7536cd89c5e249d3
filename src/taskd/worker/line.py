"""An attempt's line to its worker, for what the task says while it runs. Most attempts never use theirs."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import Any

import msgspec

from taskd.domain.errors import ClaimLost
from taskd.seams import Order
from taskd.worker.frames import Said, TooLong
from taskd.worker.results import Unstorable, to_json, to_text

#: Seconds between two tellings of one attempt's progress.
EVERY = 1.0
#: Bytes of a progress's message.
MAX_MESSAGE = 500


class Line:
    """1. Tells the latest progress, at once and then about once a second. 2. Hands checkpoints over, and waits for the word
    that they are stored. 3. Shows that the attempt is to stop.

    Any thread may call; the loop's own does the telling.
    """

    def __init__(self, order: Order, limit: int, loop: asyncio.AbstractEventLoop, tell: Callable[[Said], None]) -> None:
        self._order = order
        self._limit = limit
        self._loop = loop
        self._tell = tell
        self._stop = threading.Event()
        self._latest: bytes | None = None
        self._due = False
        self._timer: asyncio.TimerHandle | None = None
        self._number = 0
        self._waiting: dict[int, Future[None]] = {}
        self._closed = False
        #: True if the task looks at `cancelled`, so that it can be trusted to stop by itself.
        self.watched = False

    @property
    def cancelled(self) -> threading.Event:
        """Set when the attempt is to stop."""
        self.watched = True
        return self._stop

    def progress(self, fraction: float, message: str) -> None:
        """Tell how far the task is. Raises ValueError for what is no fraction."""
        if not 0 <= fraction <= 1:
            raise ValueError(f"progress is a number from 0 to 1, not {fraction!r}")
        said: dict[str, Any] = {"attempt": self._order.attempt, "fraction": float(fraction)}
        if message:
            said["message"] = to_text(message, MAX_MESSAGE).decode()
        self._latest = msgspec.json.encode(said)
        if not self._due:
            self._due = True
            self._loop.call_soon_threadsafe(self._tell_progress)

    def checkpoint(self, value: Any) -> Future[None]:
        """Store a value for the next attempt; done when it is durable. Raises ValueError for what cannot be stored."""
        try:
            data = to_json(value, self._limit, "the checkpoint")
        except Unstorable as error:
            raise ValueError(str(error)) from None
        stored: Future[None] = Future()
        self._loop.call_soon_threadsafe(self._ask, data, stored)
        return stored

    def answer(self, number: int, *, kept: bool) -> None:
        """The worker's word about the checkpoint of this number."""
        stored = self._waiting.pop(number, None)
        if stored is None:
            return
        with contextlib.suppress(InvalidStateError):  # who waited was stopped
            if kept:
                stored.set_result(None)
            else:
                stored.set_exception(ClaimLost(f"job {self._order.job_id} is not this attempt's any more"))

    def stop(self) -> None:
        """The attempt is to stop: say so, and let go who waits for the worker."""
        self._stop.set()
        for stored in self._waiting.values():
            stored.cancel()

    def close(self) -> None:
        """The attempt's code has ended: what it said last is told now."""
        self._closed = True
        self._stop.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._latest is not None:
            self._tell(Said(self._order.job_id, self._order.attempt, progress=self._latest))

    def _tell_progress(self) -> None:
        """Tell the latest, and look again a little later, until there is nothing new."""
        if self._closed:
            return
        self._due = False  # before the look: what comes after it makes the next one due
        value, self._latest = self._latest, None
        if value is not None:
            self._due = True
            self._tell(Said(self._order.job_id, self._order.attempt, progress=value))
            self._timer = self._loop.call_later(EVERY, self._tell_progress)

    def _ask(self, data: bytes, stored: Future[None]) -> None:
        if self._closed or self._stop.is_set():
            stored.cancel()
            return
        self._number += 1
        self._waiting[self._number] = stored
        try:
            self._tell(Said(self._order.job_id, self._order.attempt, self._number, checkpoint=data))
        except TooLong as error:
            del self._waiting[self._number]
            stored.set_exception(ValueError(f"the checkpoint is too long: {error}"))
