"""Named locks, as tasks hold them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple

from taskd.seams import Link


class HeldLock(NamedTuple):
    """A lock that is held. `fence` goes up with each holder of the name, so that a resource can refuse an older one."""

    name: str
    fence: int


@asynccontextmanager
async def lock(link: Link, name: str, wait: float | None) -> AsyncIterator[HeldLock]:
    """Hold a lock on the event loop."""
    number, granted = link.lock(name, wait)
    try:
        yield HeldLock(name, await asyncio.wrap_future(granted))
    finally:
        link.unlock(number)


@contextmanager
def lock_sync(link: Link, name: str, wait: float | None) -> Iterator[HeldLock]:
    """Hold a lock in a thread."""
    number, granted = link.lock(name, wait)
    try:
        yield HeldLock(name, granted.result())
    finally:
        link.unlock(number)
