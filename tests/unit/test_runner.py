"""Test attempts inside an executor: their ends, and that nothing is left of them."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from taskd import App, Context
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
from tests.unit.claims import order

app = App()


@app.task
async def silent() -> None:
    await asyncio.sleep(0)


@app.task
def plain() -> None: ...


@app.task
async def prints() -> None:
    _write("one", "two")


@app.task
async def talks_much() -> None:
    _write(*("x" * 100 for _ in range(100)))


def _write(*lines: str) -> None:
    output = redirection.current_output()
    assert output is not None
    for line in lines:
        output.add("stdout", "", line)


@app.task
async def talks(ctx: Context) -> None:
    await ctx.progress(0.5)


def no_connections() -> TaskConnections:
    raise AssertionError("no transaction here")


async def run(task: str, attempts: int, make: type[Capture] = Capture) -> tuple[list[End], list[Chunk]]:
    """Run so many attempts at once. Return their ends, and the chunks that were sent before those."""
    over = asyncio.Event()
    ended: list[End] = []
    sent: list[Chunk] = []

    def on_end(ends: list[End]) -> None:
        ended.extend(ends)
        if len(ended) == attempts:
            over.set()

    capture = make(40_000, CrashBuffer(crash_buffer.create()), sent.extend)
    runner = Runner(app, "app", ResultEncoder(1000, 1000), on_end, lambda _: None, 1.0, no_connections, capture)
    runner.begin([order(number, task) for number in range(attempts)])
    await over.wait()
    return ended, sent


@pytest.mark.parametrize("task", ["silent", "plain", "talks", "prints"])
async def test_an_attempt_that_has_ended_leaves_nothing_to_the_garbage_collector(task: str) -> None:
    await run(task, 1)  # objects that are made once stay
    gc.collect()
    gc.disable()
    try:
        await run(task, 100)
        assert gc.collect() < 100, "each attempt leaves objects in a reference cycle"
    finally:
        gc.enable()


async def test_an_end_is_sent_even_if_the_last_output_is_lost() -> None:
    class Broken(Capture):
        def take_rest(self, buffer: OutputBuffer) -> Chunk | None:
            raise RuntimeError("dictionary changed size during iteration")

    await run("prints", 3, Broken)


async def test_an_end_takes_the_unsent_output_along() -> None:
    ends, sent = await run("prints", 3)
    assert sorted(end.job_id for end in ends) == [0, 1, 2]
    assert all(
        end.output is not None and (end.output.job_id, end.output.line, end.output.lines) == (end.job_id, 1, 2)
        for end in ends
    )
    assert sent == []


async def test_output_that_is_too_much_for_an_end_is_sent_before_it() -> None:
    ends, sent = await run("talks_much", 1)
    assert [end.output for end in ends] == [None]
    assert sum(chunk.lines for chunk in sent) == 100


def test_output_that_is_written_while_its_buffer_is_made_does_not_block() -> None:
    """A finalizer may write output wherever the garbage collector starts."""

    class Finalizing:
        def buffer(self, order: Order) -> OutputBuffer | None:
            seen.append(order)
            return running.open_buffer() if len(seen) == 1 else None

    seen: list[Order] = []
    running = RunningAttempt(order(1, "silent"), lambda order: pytest.fail(str(order)), Finalizing())  # type: ignore[arg-type]
    thread = threading.Thread(target=running.open_buffer, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
