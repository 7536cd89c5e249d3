"""What the measured jobs do."""

from __future__ import annotations

import asyncio

from taskd import App

app = App()


@app.task
async def noop() -> None:
    """Nothing, on the event loop."""


@app.task
def plain() -> None:
    """Nothing, in a thread."""


@app.task
async def nap(seconds: float) -> None:
    """Sleep."""
    await asyncio.sleep(seconds)
