"""Reads with a deadline, and reads that many callers share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from taskd.domain.errors import StoreUnavailable, TaskdError, Unavailable

T = TypeVar("T")

#: Seconds. Callers get a response within 2 s, if only the one that PostgreSQL does not answer.
READ_DEADLINE = 1.9
#: A read that takes longer than SLOW seconds is repeated in the background, until INTEREST seconds after the last caller. The
#: pause between two such reads is PAUSE times as long as one takes.
SLOW, INTEREST, PAUSE = 0.005, 60.0, 20.0


async def within(read: Coroutine[Any, Any, T], deadline: float = READ_DEADLINE) -> T:
    """Return the result of `read`. Raises StoreUnavailable after `deadline` seconds; its outcome is known: nothing changed.

    To cancel a read of a server that hangs may take long, so the read is cancelled and not awaited.
    """
    task = asyncio.ensure_future(read)
    try:
        await asyncio.wait({task}, timeout=deadline)
        if task.done():
            return task.result()
    except Unavailable as error:
        if not error.outcome_unknown:
            raise
        raise error.with_outcome(unknown=False) from error
    finally:
        if not task.done():
            task.add_done_callback(_retrieve)
            task.cancel()
    raise StoreUnavailable(f"PostgreSQL did not answer within {deadline:g} seconds", shown=True)


def _retrieve(task: asyncio.Future[Any]) -> None:
    """Retrieve an abandoned read's exception, which asyncio would report otherwise; its caller has had an error already."""
    if not task.cancelled():
        task.exception()


class ReadLimiter:
    """Limits how many large pages are read and rendered at once. Further callers wait, at most as long as a read may take."""

    def __init__(self, size: int = 3) -> None:
        self._permits = asyncio.Semaphore(size)

    async def __aenter__(self) -> None:
        try:
            async with asyncio.timeout(READ_DEADLINE):
                await self._permits.acquire()
        except TimeoutError:
            raise StoreUnavailable("too many pages are read at once: try again", shown=True) from None

    async def __aexit__(self, *_: object) -> None:
        self._permits.release()


class SingleFlight(Generic[T]):
    """Coalesces reads: a caller that comes while a read is under way gets the same task.

    Shield the task before awaiting it, so that one cancelled caller does not end the read of all the others. `finished` is
    called with each task that is done; it has to retrieve the task's exception.
    """

    def __init__(
        self,
        read: Callable[[], Coroutine[Any, Any, T]],
        finished: Callable[[asyncio.Task[T]], object] = _retrieve,
    ) -> None:
        self._read = read
        self._finished = finished
        self._task: asyncio.Task[T] | None = None

    def start(self) -> asyncio.Task[T]:
        """Return the task of the read that is under way, or of a new one."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())
            self._task.add_done_callback(self._finished)
        return self._task

    async def _run(self) -> T:
        try:
            return await self._read()
        finally:
            self._task = None


class CachedRead(Generic[T]):
    """A value that is at most `age` seconds old, so that many callers at once cost one read.

    With `repeat`, a slow read (a count of a table with a million jobs) is repeated in the background while there are callers.
    They get its last value at once. That value is at most PAUSE times as old as one read takes.
    """

    def __init__(self, read: Callable[[], Coroutine[Any, Any, T]], age: float = 1.0, *, repeat: bool = False) -> None:
        self._read = read
        self._age = age
        self._repeat = repeat
        self._value: tuple[float, T] | None = None
        self._refreshing = SingleFlight(self._refresh)
        self._asked = 0.0
        self._took = 0.0
        self._repeating: asyncio.Task[None] | None = None

    async def get(self) -> T:
        """Return the value. Raises what the read raises."""
        self._asked = time.monotonic()
        if self._value is not None and (self._repeating is not None or self._asked - self._value[0] < self._age):
            return self._value[1]
        value = await self._shared()
        if self._repeat and self._took > SLOW and self._repeating is None:
            self._repeating = asyncio.create_task(self._repeat_reads())
        return value

    async def _repeat_reads(self) -> None:
        """Read again and again, while the read is slow and callers come."""
        try:
            while self._took > SLOW and time.monotonic() - self._asked < INTEREST:
                await asyncio.sleep(max(self._age, PAUSE * self._took))
                await self._shared()
        except TaskdError:
            return  # the next caller reads for itself, and gets the error
        finally:
            self._repeating = None

    async def _shared(self) -> T:
        shared: Awaitable[T] = asyncio.shield(self._refreshing.start())
        return await shared

    async def _refresh(self) -> T:
        began = time.monotonic()
        value = await within(self._read())
        self._value, self._took = (began, value), time.monotonic() - began
        return value
