"""Waiting for one of several events, or for one event with a time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def wait_for(event: asyncio.Event, seconds: float | None) -> bool:
    """Wait until the event is set, for at most `seconds` (None: without a limit). Return whether it is set."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


async def either(one: asyncio.Event, other: asyncio.Event) -> None:
    """Return when one of the two is set."""
    if one.is_set() or other.is_set():
        return
    await first(one.wait(), other.wait())


async def first(*waits: Coroutine[Any, Any, object]) -> None:
    """Return when one of the waits is over. Cancels the others, also if the caller is cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
