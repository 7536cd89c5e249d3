"""Test the loop that writes batches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from taskd.runtime.pace import PACE
from taskd.worker.batches import BatchWriter
from tests.servers import wait_until_async


class Items:
    """Items that wait, at most two in a batch, and the batches that were written."""

    def __init__(self) -> None:
        self.waiting: list[int] = []
        self.written: list[list[int]] = []
        self.times: list[float] = []
        self.refuse_once = False
        self.writer = BatchWriter(self._take, self._write)

    def add(self, *items: int) -> None:
        self.waiting += items
        self.writer.wake()

    def _take(self) -> list[int]:
        batch, self.waiting = self.waiting[:2], self.waiting[2:]
        return batch

    async def _write(self, batch: list[int]) -> None:
        await asyncio.sleep(0)
        if self.refuse_once:
            self.refuse_once = False
            self.waiting = batch + self.waiting
            return
        self.written.append(batch)
        self.times.append(time.monotonic())


@asynccontextmanager
async def running(items: Items) -> AsyncIterator[None]:
    task = asyncio.create_task(items.writer.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_all_items_are_written_in_order_and_in_batches() -> None:
    items = Items()
    items.add(1, 2, 3, 4, 5)
    async with running(items):
        await wait_until_async(lambda: len(items.written) == 3)
        items.add(6)
        await wait_until_async(lambda: len(items.written) == 4)
    assert items.written == [[1, 2], [3, 4], [5], [6]]


async def test_a_batch_that_was_put_back_is_written_again_without_a_new_item() -> None:
    items = Items()
    items.refuse_once = True
    items.add(1, 2, 3)
    async with running(items):
        await wait_until_async(lambda: len(items.written) == 2)
    assert items.written == [[1, 2], [3]]


async def test_items_that_come_one_after_the_other_wait_for_their_turn() -> None:
    items = Items()
    async with running(items):
        for number in range(3):
            items.add(number)
            await wait_until_async(lambda n=number: len(items.written) == n + 1)  # type: ignore[misc]
    assert items.times[2] - items.times[0] >= 1.5 * PACE
