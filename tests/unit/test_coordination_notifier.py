from __future__ import annotations

import asyncio

from taskd.coordination.notifier import Notifier


async def test_a_ring_wakes_all_who_wait() -> None:
    bell = Notifier()
    waiting = [asyncio.ensure_future(bell.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    bell.notify()
    async with asyncio.timeout(5):
        await asyncio.gather(*waiting)


async def test_a_ring_before_the_wait_does_not_count() -> None:
    bell = Notifier()
    bell.notify()
    waiting = asyncio.ensure_future(bell.wait())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    bell.notify()
    await waiting


async def test_a_wait_ends_after_its_seconds() -> None:
    async with asyncio.timeout(5):
        await Notifier().wait(0.01)
