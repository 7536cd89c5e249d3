"""Tests of submits that wait: each is answered within its own time, also while PostgreSQL does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
import pytest

from taskd.domain.errors import StoreUnavailable
from taskd.domain.job import JobSpec
from taskd.store.intake import PostgresIntake
from taskd.store.lane import Lane

DEADLINE = 0.2
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = JobSpec(payload=msgspec.Raw(b"1"))


class FakeLane:
    """Fake lane that stores once it is open."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.stored = 0

    async def fetch(self, _: object, arguments: Mapping[str, Any], deadline: float | None = None) -> list[Any]:
        await self.open.wait()
        rows = len(msgspec.json.decode(arguments["jobs"]))
        self.stored += rows
        return [(self.stored - n, False, NOW, NOW) for n in range(rows)]


def _intake(lane: FakeLane) -> PostgresIntake:
    typed = cast("Lane", lane)
    return PostgresIntake(typed, typed, deadline=DEADLINE, stored=lambda: None)


async def test_submits_that_wait_too_long_fail_in_order_and_one_that_was_not_sent_is_never_stored() -> None:
    lane, order = FakeLane(), []
    intake = _intake(lane)

    async def submit(name: str) -> float:
        began = asyncio.get_running_loop().time()
        with pytest.raises(StoreUnavailable, match="did not answer within") as refused:
            await intake.submit(SPEC)
        assert refused.value.outcome_unknown
        order.append(name)
        return asyncio.get_running_loop().time() - began

    first = asyncio.create_task(submit("first"))
    await asyncio.sleep(0)  # it is sent, alone
    late = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(DEADLINE / 2, late.set_result, None)
    await late
    waited = await asyncio.gather(first, submit("second"))
    assert order == ["first", "second"]
    assert all(seconds >= DEADLINE for seconds in waited)
    lane.open.set()
    await asyncio.wait_for(intake.submit(SPEC), 10)
    assert lane.stored == 2  # the first, which had been sent, and the last


async def test_answered_submits_are_forgotten() -> None:
    lane = FakeLane()
    lane.open.set()
    intake = _intake(lane)
    await asyncio.gather(*(intake.submit(SPEC) for _ in range(1000)))
    await asyncio.sleep(0)
    assert not intake._open


async def test_a_caller_that_goes_away_leaves_nothing_behind() -> None:
    lane = FakeLane()
    intake = _intake(lane)
    gone = asyncio.create_task(intake.submit(SPEC))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    lane.open.set()
    await asyncio.wait_for(intake.submit(SPEC), 10)
    await asyncio.sleep(0)
    assert not intake._open
