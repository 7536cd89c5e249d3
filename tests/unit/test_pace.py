"""Turns: a lone one at once, a stream's apart."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from taskd.runtime import pace
from taskd.runtime.pace import Pace


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only sleeping moves, and what was slept."""
    found: list[float] = []

    async def sleep(seconds: float) -> None:
        found.append(seconds)

    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=lambda: 100.0 + sum(found)))
    monkeypatch.setattr(pace, "asyncio", SimpleNamespace(sleep=sleep))
    return found


def test_the_first_turn_comes_at_once_and_the_next_a_pace_later(slept: list[float]) -> None:
    async def turns() -> None:
        one = Pace()
        await one.turn()
        assert slept == []
        await one.turn()
        await one.turn()

    asyncio.run(turns())
    assert slept == pytest.approx([pace.PACE, pace.PACE])


def test_who_comes_after_a_rest_waits_for_nothing(slept: list[float]) -> None:
    async def turns() -> None:
        one = Pace()
        await one.turn()
        slept.append(1.0)  # the rest
        await one.turn()

    asyncio.run(turns())
    assert slept == [1.0]
