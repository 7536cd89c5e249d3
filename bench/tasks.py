"""The tasks that are measured."""

from __future__ import annotations

import asyncio

from bench.peers.common import ran
from taskd import App

app = App()


@app.task
async def noop(sent: int = 0) -> None:
    """Do the same as the peers' job, on the event loop."""
    ran(sent)


@app.task
def plain(sent: int = 0) -> None:
    """Do the same as noop, in a thread."""
    ran(sent)


@app.task
async def nap(seconds: float) -> None:
    """Sleep."""
    await asyncio.sleep(seconds)


@app.task
async def prints(sent: int = 0) -> None:
    """Do the same as noop, and print a line."""
    ran(sent)
    print("one line of a usual length, such as a task might print about its work")
