"""Tests of the notifier."""

from __future__ import annotations

import asyncio

from taskd.coordination.notifier import Notifier


async def test_a_notification_wakes_all_waiters() -> None:
    notifier = Notifier()
    waiting = [asyncio.ensure_future(notifier.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    notifier.notify()
    async with asyncio.timeout(5):
        await asyncio.gather(*waiting)


async def test_a_notification_before_the_wait_does_not_count() -> None:
    notifier = Notifier()
    notifier.notify()
    waiting = asyncio.ensure_future(notifier.wait())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    notifier.notify()
    await waiting


async def test_a_wait_ends_after_its_seconds() -> None:
    async with asyncio.timeout(5):
        await Notifier().wait(0.01)
