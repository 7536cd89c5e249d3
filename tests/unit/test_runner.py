"""Attempts inside an executor: what is left of them when they have ended."""

from __future__ import annotations

import asyncio
import gc
import threading
from datetime import UTC, datetime

import pytest

from taskd import App, Context
from taskd.seams import Desk, Order
from taskd.worker import lastwords
from taskd.worker.capture import Capture, Voice
from taskd.worker.frames import End
from taskd.worker.lastwords import LastWords
from taskd.worker.results import Results
from taskd.worker.runner import Runner, Running

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


async def run(task: str, attempts: int, make: type[Capture] = Capture) -> None:
    """Run so many attempts at once."""
    over, ended = asyncio.Event(), []

    def tell(ends: list[End]) -> None:
        ended.extend(ends)
        if len(ended) == attempts:
            over.set()

    capture = make(20_000, LastWords(lastwords.create()), lambda _: None)
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


async def test_an_end_is_told_whatever_becomes_of_the_last_words() -> None:
    class Broken(Capture):
        waiting = True

        def flush(self) -> None:
            raise RuntimeError("dictionary changed size during iteration")

    await run("silent", 3, Broken)


def test_who_speaks_while_its_voice_is_made_does_not_wait_for_itself() -> None:
    """As what the garbage collector ends may do, wherever it starts."""

    class Finalizing:
        def voice(self, order: Order) -> Voice | None:
            seen.append(order)
            return running.speak() if len(seen) == 1 else None

    seen: list[Order] = []
    running = Running(order(1, "silent"), lambda order: pytest.fail(str(order)), Finalizing())  # type: ignore[arg-type]
    talk = threading.Thread(target=running.speak, daemon=True)
    talk.start()
    talk.join(20)
    assert not talk.is_alive()
