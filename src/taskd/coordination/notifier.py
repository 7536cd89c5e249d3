"""A notifier: wakes the tasks that wait at the moment of a notification, and none later."""

from __future__ import annotations

import asyncio

from taskd.runtime.waiting import wait_for


class Notifier:
    """A task that looks first and then waits, without an await in between, misses no notification."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Wake all waiting tasks."""
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def wait(self, seconds: float | None = None) -> None:
        """Return at the next notification, or after `seconds`."""
        await wait_for(self._event, seconds)
