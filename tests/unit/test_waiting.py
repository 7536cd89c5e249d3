"""Test waiting for an event with a time limit, and for the first of several."""

from __future__ import annotations

import asyncio
import time

import pytest

from taskd.runtime.waiting import either, first, wait_for


async def test_an_event_that_is_set_is_not_waited_for_even_without_time() -> None:
    event = asyncio.Event()
    event.set()
    assert await wait_for(event, 0)
    assert await wait_for(event, None)


async def test_an_event_that_is_set_in_time_ends_the_wait() -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, event.set)
    assert await wait_for(event, 60)


async def test_a_wait_ends_after_its_seconds() -> None:
    event, began = asyncio.Event(), time.monotonic()
    assert not await wait_for(event, 0.05)
    assert time.monotonic() - began >= 0.04
    assert not await wait_for(event, 0)


async def test_a_wait_without_a_limit_lasts_until_the_event() -> None:
    event = asyncio.Event()
    waiting = asyncio.create_task(wait_for(event, None))
    await asyncio.sleep(0.02)
    assert not waiting.done()
    event.set()
    assert await waiting


async def test_a_wait_can_be_cancelled() -> None:
    waiting = asyncio.create_task(wait_for(asyncio.Event(), 60))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


@pytest.mark.parametrize("number", [0, 1])
async def test_either_of_two_events_ends_a_wait(number: int) -> None:
    events = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, events[number].set)
    await asyncio.wait_for(either(*events), 60)


async def test_the_waits_that_did_not_come_first_are_cancelled() -> None:
    cancelled = asyncio.Event()

    async def long() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    await first(long(), asyncio.sleep(0.01))
    assert await wait_for(cancelled, 60)
