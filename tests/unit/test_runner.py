"""Attempts inside an executor: what is left of them when they have ended."""

from __future__ import annotations

import asyncio
import gc
from datetime import UTC, datetime

import pytest

from taskd import App, Context
from taskd.seams import Desk, Order
from taskd.worker import lastwords
from taskd.worker.capture import Capture
from taskd.worker.frames import End
from taskd.worker.lastwords import LastWords
from taskd.worker.results import Results
from taskd.worker.runner import Runner

NOW = datetime.now(UTC)
app = App()


@app.task
async def silent() -> None:
    await asyncio.sleep(0)


@app.task
def plain() -> None: ...


@app.task
async def talks(ctx: Context) -> None:
    await ctx.progress(0.5)


def order(job_id: int, task: str) -> Order:
    return Order(job_id, 1, task, "default", 0, b"{}", NOW, NOW, None, {}, 3, 0, "w")


def no_desk() -> Desk:
    raise AssertionError("no transaction here")


async def run(task: str, attempts: int) -> None:
    """Run so many attempts at once."""
    over, ended = asyncio.Event(), []

    def tell(ends: list[End]) -> None:
        ended.extend(ends)
        if len(ended) == attempts:
            over.set()

    capture = Capture(20_000, LastWords(lastwords.create()), lambda _: None)
    runner = Runner(app, "app", Results(1000, 1000), tell, lambda _: None, 1.0, no_desk, capture)
    runner.begin([order(number, task) for number in range(attempts)])
    await over.wait()


@pytest.mark.parametrize("task", ["silent", "plain", "talks"])
async def test_an_attempt_that_has_ended_leaves_nothing_to_the_garbage_collector(task: str) -> None:
    await run(task, 1)  # what is made once stays
    gc.collect()
    gc.disable()
    try:
        await run(task, 100)
        assert gc.collect() < 100, "each attempt leaves objects that know each other in a circle"
    finally:
        gc.enable()
