"""What the measured jobs do."""

from __future__ import annotations

import asyncio

from bench.peers.common import ran
from taskd import App

app = App()


@app.task
async def noop(sent: int = 0) -> None:
    """Nothing but what the peers' job does, on the event loop."""
    ran(sent)


@app.task
def plain() -> None:
    """Nothing, in a thread."""


@app.task
async def nap(seconds: float) -> None:
    """Sleep."""
    await asyncio.sleep(seconds)
