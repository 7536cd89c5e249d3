"""Tests of paces: a lone turn comes at once, those of a stream come apart."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from taskd.runtime import pace
from taskd.runtime.pace import Pace


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds of each sleep. Only sleeps move the clock."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=lambda: 100.0 + sum(slept)))
    monkeypatch.setattr(pace, "asyncio", SimpleNamespace(sleep=sleep))
    return slept


def test_the_first_turn_comes_at_once_and_the_next_a_pace_later(slept: list[float]) -> None:
    async def turns() -> None:
        pace_ = Pace()
        await pace_.turn()
        assert slept == []
        await pace_.turn()
        await pace_.turn()

    asyncio.run(turns())
    assert slept == pytest.approx([pace.PACE, pace.PACE])


def test_a_turn_after_a_rest_comes_at_once(slept: list[float]) -> None:
    async def turns() -> None:
        pace_ = Pace()
        await pace_.turn()
        slept.append(1.0)  # the rest
        await pace_.turn()

    asyncio.run(turns())
    assert slept == [1.0]
