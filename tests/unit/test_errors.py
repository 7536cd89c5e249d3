"""Tests of the exceptions with which a task asks to run again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import taskd
from taskd import RetryAt, Snooze

SOON = timedelta(seconds=60)


@pytest.mark.parametrize("when", [60, 60.0, SOON, datetime.now(UTC) + timedelta(days=30)])
def test_both_take_seconds_a_duration_or_an_instant(when: Any) -> None:
    began = datetime.now(UTC)
    expected = when if isinstance(when, datetime) else began + SOON
    assert abs((RetryAt(when).when - expected).total_seconds()) < 5
    assert abs(Snooze(when).seconds - (expected - began).total_seconds()) < 5


def test_an_instant_that_has_passed_means_at_once() -> None:
    past = datetime(2020, 1, 1, tzinfo=UTC)
    assert Snooze(past).seconds == 0
    assert RetryAt(past).when == past


@pytest.mark.parametrize("exception", [RetryAt, Snooze])
@pytest.mark.parametrize("when", ["60", None, True])
def test_an_invalid_time_is_refused_by_name(exception: Any, when: object) -> None:
    with pytest.raises(TypeError, match=f"{exception.__name__} takes seconds, a timedelta or an aware datetime"):
        exception(when)


@pytest.mark.parametrize("exception", [RetryAt, Snooze])
@pytest.mark.parametrize("when", [-1, float("nan"), float("inf"), timedelta(days=4000), timedelta(-1)])
def test_a_time_that_cannot_be_waited_for_is_refused(exception: Any, when: object) -> None:
    with pytest.raises(ValueError, match="from 0 to"):
        exception(when)


@pytest.mark.parametrize("exception", [RetryAt, Snooze])
def test_a_wall_clock_without_a_zone_is_refused(exception: Any) -> None:
    with pytest.raises(ValueError, match="time zone"):
        exception(datetime(2030, 1, 1))


def test_the_package_lists_what_it_loads_late() -> None:
    assert set(taskd.__all__) <= set(dir(taskd))
