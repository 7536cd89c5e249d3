"""Test attempts inside an executor: their ends, and that nothing is left of them."""

from __future__ import annotations

import asyncio
import gc
import threading
from datetime import UTC, datetime

import pytest

from taskd import App, Context
from taskd.domain.job import JobInfo
from taskd.domain.output import Chunk
from taskd.executor import redirection
from taskd.executor.capture import Capture, OutputBuffer
from taskd.executor.results import ResultEncoder
from taskd.executor.runner import Runner
from taskd.executor.running_attempt import RunningAttempt
from taskd.seams import Order, TaskConnections
from taskd.worker.pool import crash_buffer
from taskd.worker.pool.crash_buffer import CrashBuffer
from taskd.worker.pool.protocol import End

NOW = datetime.now(UTC)
app = App()


@app.task
async def silent() -> None:
    await asyncio.sleep(0)


@app.task
def plain() -> None: ...


@app.task
async def prints() -> None:
    _say("one", "two")


@app.task
async def talks_much() -> None:
    _say(*("x" * 100 for _ in range(100)))


def _say(*lines: str) -> None:
    output = redirection.current_output()
    assert output is not None
    for line in lines:
        output.add("stdout", "", line)


@app.task
async def talks(ctx: Context) -> None:
    await ctx.progress(0.5)


def order(job_id: int, task: str) -> Order:
    return Order(JobInfo(job_id, task, "default", 0, b"{}", NOW, NOW, None, {}, 3, 0, "w"), 1)


def no_connections() -> TaskConnections:
    raise AssertionError("no transaction here")


async def run(task: str, attempts: int, make: type[Capture] = Capture) -> tuple[list[End], list[Chunk]]:
    """Run so many attempts at once. Return their ends, and the chunks that were sent before those."""
    over = asyncio.Event()
    ended: list[End] = []
    told: list[Chunk] = []

    def tell(ends: list[End]) -> None:
        ended.extend(ends)
        if len(ended) == attempts:
            over.set()

    caught = make(40_000, CrashBuffer(crash_buffer.create()), told.extend)
    runner = Runner(app, "app", ResultEncoder(1000, 1000), tell, lambda _: None, 1.0, no_connections, caught)
    runner.begin([order(number, task) for number in range(attempts)])
    await over.wait()
    return ended, told


@pytest.mark.parametrize("task", ["silent", "plain", "talks", "prints"])
async def test_an_attempt_that_has_ended_leaves_nothing_to_the_garbage_collector(task: str) -> None:
    await run(task, 1)  # what is made once stays
    gc.collect()
    gc.disable()
    try:
        await run(task, 100)
        assert gc.collect() < 100, "each attempt leaves objects that know each other in a circle"
    finally:
        gc.enable()


async def test_an_end_is_sent_even_if_the_last_output_is_lost() -> None:
    class Broken(Capture):
        def take_rest(self, buffer: OutputBuffer) -> Chunk | None:
            raise RuntimeError("dictionary changed size during iteration")

    await run("prints", 3, Broken)


async def test_an_end_takes_the_unsent_output_along() -> None:
    ends, told = await run("prints", 3)
    assert sorted(end.job_id for end in ends) == [0, 1, 2]
    assert all(
        end.output is not None and (end.output.job_id, end.output.line, end.output.lines) == (end.job_id, 1, 2)
        for end in ends
    )
    assert told == []


async def test_output_that_is_too_much_for_an_end_is_sent_before_it() -> None:
    ends, told = await run("talks_much", 1)
    assert [end.output for end in ends] == [None]
    assert sum(chunk.lines for chunk in told) == 100


def test_output_that_is_written_while_its_buffer_is_made_does_not_block() -> None:
    """A finalizer may write output wherever the garbage collector starts."""

    class Finalizing:
        def buffer(self, order: Order) -> OutputBuffer | None:
            seen.append(order)
            return running.open_buffer() if len(seen) == 1 else None

    seen: list[Order] = []
    running = RunningAttempt(order(1, "silent"), lambda order: pytest.fail(str(order)), Finalizing())  # type: ignore[arg-type]
    talk = threading.Thread(target=running.open_buffer, daemon=True)
    talk.start()
    talk.join(20)
    assert not talk.is_alive()
