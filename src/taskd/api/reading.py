"""Reads that cannot hang, and reads that many callers share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from taskd.domain.errors import StoreUnavailable, TaskdError, Unavailable

T = TypeVar("T")

#: Seconds. Callers are promised an answer within 2 s, be it that there is none.
READ_DEADLINE = 1.9
#: Seconds from which on nobody is made to wait for a read that was done before; for how long it is then repeated after somebody
#: asked; and the pause between two of them, as a multiple of what one takes.
SLOW, INTEREST, PAUSE = 0.005, 60.0, 20.0


async def within(read: Coroutine[Any, Any, T], deadline: float = READ_DEADLINE) -> T:
    """The result of `read`. Raises StoreUnavailable after `deadline` seconds; its outcome is known, for a read changes nothing.

    A read of a server that hangs may take long to cancel, so it is cancelled and left to itself, never awaited.
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
            task.add_done_callback(_forget)
            task.cancel()
    raise StoreUnavailable(f"PostgreSQL did not answer within {deadline:g} seconds", shown=True)


def _forget(task: asyncio.Future[Any]) -> None:
    """Look at an abandoned read's exception: its caller has heard of the failure already."""
    if not task.cancelled():
        task.exception()


class Gate:
    """Lets so many large pages be read and rendered at once; others wait, and no longer than for a read."""

    def __init__(self, size: int = 3) -> None:
        self._places = asyncio.Semaphore(size)

    async def __aenter__(self) -> None:
        try:
            async with asyncio.timeout(READ_DEADLINE):
                await self._places.acquire()
        except TimeoutError:
            raise StoreUnavailable("too many pages are read at once: try again", shown=True) from None

    async def __aexit__(self, *_: object) -> None:
        self._places.release()


class Recent(Generic[T]):
    """A value that is at most `age` seconds old: a storm of callers costs one read.

    With `repeat`, a read that takes long (jobs are counted in a table that holds a million) is repeated in the background while
    anybody asks now and then, and callers get what it found last: PAUSE times as old as the read is long, at the most.
    """

    def __init__(self, read: Callable[[], Coroutine[Any, Any, T]], age: float = 1.0, *, repeat: bool = False) -> None:
        self._read = read
        self._age = age
        self._repeat = repeat
        self._value: tuple[float, T] | None = None
        self._reading: asyncio.Task[T] | None = None
        self._asked = 0.0
        self._took = 0.0
        self._repeating: asyncio.Task[None] | None = None

    async def get(self) -> T:
        """The value. Raises what the read raises."""
        self._asked = time.monotonic()
        if self._value is not None and (self._repeating is not None or self._asked - self._value[0] < self._age):
            return self._value[1]
        value = await self._shared()
        if self._repeat and self._took > SLOW and self._repeating is None:
            self._repeating = asyncio.create_task(self._go_on())
        return value

    async def _go_on(self) -> None:
        """Read while it is slow and somebody is interested."""
        try:
            while self._took > SLOW and time.monotonic() - self._asked < INTEREST:
                await asyncio.sleep(max(self._age, PAUSE * self._took))
                await self._shared()
        except TaskdError:
            return  # whoever asks next reads, and hears of it
        finally:
            self._repeating = None

    async def _shared(self) -> T:
        if self._reading is None:
            self._reading = asyncio.create_task(self._refresh())
            self._reading.add_done_callback(_forget)
        # Shielded, so that one caller that goes away does not end the read of all the others.
        shared: Awaitable[T] = asyncio.shield(self._reading)
        return await shared

    async def _refresh(self) -> T:
        asked = time.monotonic()
        try:
            value = await within(self._read())
        finally:
            self._reading = None
        self._value, self._took = (asked, value), time.monotonic() - asked
        return value
