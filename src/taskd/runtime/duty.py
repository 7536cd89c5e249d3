"""Background duties, which go on whatever happens in one of their rounds."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any

from taskd.runtime.log import logger

PAUSE = 1.0


async def forever(name: str, duty: Callable[[], Awaitable[None]]) -> None:
    """Run `duty` until cancelled. An exception is logged, and the duty starts again a second later."""
    while True:
        try:
            await duty()
        except Exception:  # noqa: BLE001  a process that quietly stopped being a member would be worse than a repeated log line
            logger().exception("a background duty failed and starts again", duty=name)
        await asyncio.sleep(PAUSE)


async def unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Await `work`, or cancel it once `stop` is set. Return True if it was done. Raises its exceptions."""
    doing, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            doing.result()
            return True
        return False
    finally:
        await end(stopping)
        await end(doing)


async def aside(function: Callable[..., Any], *args: Any) -> Any:
    """Call a blocking function in a daemon thread, which the end of this process does not wait for. Return its result."""
    future: Future[Any] = Future()

    def call() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(function(*args))
        except BaseException as error:  # noqa: BLE001 - the future raises it
            future.set_exception(error)

    threading.Thread(target=call, name="aside", daemon=True).start()
    return await asyncio.wrap_future(future)


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel `task` and wait until it has ended."""
    task.cancel()
    await asyncio.wait({task})
