"""Waiting for the first of several things."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def either(one: asyncio.Event, other: asyncio.Event) -> None:
    """Return when one of the two is set."""
    if one.is_set() or other.is_set():
        return
    await first(one.wait(), other.wait())


async def first(*waits: Coroutine[Any, Any, object]) -> None:
    """Return when one of these is over; the others end with it, also if the caller is cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
