"""A background duty that has to go on, whatever happens in one of its rounds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from taskd.runtime.log import logger

PAUSE = 1.0


async def forever(name: str, duty: Callable[[], Awaitable[None]]) -> None:
    """Run `duty` until cancelled; what it raises is logged, and it starts again a second later."""
    while True:
        try:
            await duty()
        except Exception:  # noqa: BLE001  a process that quietly stopped being a member would be worse than a repeated log line
            logger().exception("a background duty failed and starts again", duty=name)
        await asyncio.sleep(PAUSE)


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel `task` and wait until it is gone."""
    task.cancel()
    await asyncio.wait({task})
