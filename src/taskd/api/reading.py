"""Reads that cannot hang, and reads that many callers share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from taskd.domain.errors import StoreUnavailable

T = TypeVar("T")

#: Seconds. Callers are promised an answer within 2 s, be it that there is none.
READ_DEADLINE = 1.9


async def within(read: Coroutine[Any, Any, T], deadline: float = READ_DEADLINE) -> T:
    """The result of `read`. Raises StoreUnavailable after `deadline` seconds.

    A read of a server that hangs may take long to cancel, so it is cancelled and left to itself, never awaited.
    """
    task = asyncio.ensure_future(read)
    try:
        await asyncio.wait({task}, timeout=deadline)
        if task.done():
            return task.result()
    finally:
        if not task.done():
            task.add_done_callback(_forget)
            task.cancel()
    raise StoreUnavailable(f"PostgreSQL did not answer within {deadline:g} seconds")


def _forget(task: asyncio.Future[Any]) -> None:
    """Look at an abandoned read's exception: its caller has heard of the failure already."""
    if not task.cancelled():
        task.exception()


class Recent(Generic[T]):
    """A value that is at most `age` seconds old: a storm of callers costs one read."""

    def __init__(self, read: Callable[[], Coroutine[Any, Any, T]], age: float = 1.0) -> None:
        self._read = read
        self._age = age
        self._value: tuple[float, T] | None = None
        self._reading: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """The value. Raises what the read raises."""
        if self._value is not None and time.monotonic() - self._value[0] < self._age:
            return self._value[1]
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
        self._value = (asked, value)
        return value
