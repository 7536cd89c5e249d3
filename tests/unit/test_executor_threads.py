"""Test the threads of plain functions: the end of each is reported, whenever it is interrupted."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from taskd.executor.threads import Stopped, ThreadPool
from taskd.worker.pool.protocol import End, EndKind
from tests.servers import wait_until_async

END = End(1, 1, EndKind.COMPLETED)


class Pool:
    """A pool of threads, and the ends that functions reported."""

    def __init__(self) -> None:
        self.threads = ThreadPool(asyncio.get_running_loop())

    async def run(self, work: Any, interrupt_after: int | None = None) -> End | None:
        reported: asyncio.Future[End | None] = asyncio.get_running_loop().create_future()
        thread = self.threads.take()
        thread.run(work, lambda end: None if reported.done() else reported.set_result(end))
        if interrupt_after is not None:
            for _ in range(interrupt_after):
                pass
            thread.interrupt()
        try:
            return await asyncio.wait_for(reported, 20)
        finally:
            self.threads.give_back(thread)


def at_once() -> End:
    return END


def catches_its_stop() -> End:
    try:
        while True:
            pass
    except Stopped:
        return END


def spins() -> End:
    while True:
        pass


@pytest.fixture
async def pool() -> Pool:
    return Pool()


@pytest.fixture
def fickle_switching() -> Iterator[None]:
    """Let threads take turns as often as they can, so that interrupts land in odd places."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("fickle_switching")
async def test_an_interrupt_at_any_instant_is_reported_and_its_thread_ends(pool: Pool) -> None:
    before = threading.active_count()
    draw = random.Random(5)
    for _ in range(1500):
        assert await pool.run(spins, interrupt_after=draw.randrange(400)) is None
        assert await pool.run(at_once, interrupt_after=draw.randrange(400)) in (None, END)
    await wait_until_async(lambda: threading.active_count() <= before)


async def test_a_function_that_catches_its_stop_reports_its_own_end(pool: Pool) -> None:
    started = threading.Event()

    def work() -> End:
        started.set()
        return catches_its_stop()

    end = asyncio.create_task(pool.run(work, interrupt_after=0))
    assert await end in (END, None)


async def test_a_thread_is_used_again_unless_it_was_interrupted(pool: Pool) -> None:
    names: list[int] = []

    def work() -> End:
        names.append(threading.get_ident())
        return END

    assert await pool.run(work) == END
    assert await pool.run(work) == END
    assert names[0] == names[1]
    assert await pool.run(spins, interrupt_after=0) is None
    assert await pool.run(work) == END


async def test_a_function_that_raises_is_reported_and_its_thread_is_not_used_again(pool: Pool) -> None:
    def breaks() -> End:
        raise MemoryError

    assert await pool.run(breaks) is None
    assert await pool.run(at_once) == END
