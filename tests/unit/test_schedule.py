"""Tests of the ticks that fire: those on time always, missed ones by the policy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from taskd.domain.schedule import Due, Missed, decide
from taskd.domain.ticks import TickRule

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def due(rule: TickRule, behind: float, missed: Missed = Missed.ONCE, catch_up: int = 3) -> Due:
    since = NOON - timedelta(seconds=behind)
    return Due("s", rule, missed, catch_up, 1, NOON - timedelta(days=1), since)


def fires(schedule: Due, now: datetime = NOON) -> list[str]:
    return [f"{tick:%H:%M:%S}" for tick in decide(schedule, now).fires]


@pytest.mark.parametrize("missed", list(Missed))
def test_ticks_within_a_minute_all_fire(missed: Missed) -> None:
    """A failover takes less, so that it costs no tick under any policy."""
    assert len(fires(due(TickRule(cron="* * * * * *"), 30, missed))) == 30
    assert fires(due(TickRule(cron="0 * * * *"), 30, missed)) == ["12:00:00"]


@pytest.mark.parametrize(
    ("missed", "expected"),
    [(Missed.SKIP, []), (Missed.ONCE, ["11:30:00"]), (Missed.ALL, ["09:30:00", "10:30:00", "11:30:00"])],
)
def test_older_ticks_go_by_the_policy(missed: Missed, expected: list[str]) -> None:
    assert fires(due(TickRule(cron="30 * * * *"), 6 * 3600, missed)) == expected


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        (Missed.SKIP, ["12:00:00"]),
        (Missed.ONCE, ["12:00:00"]),
        (Missed.ALL, ["09:00:00", "10:00:00", "11:00:00", "12:00:00"]),
    ],
)
def test_a_tick_on_time_replaces_a_missed_one(missed: Missed, expected: list[str]) -> None:
    assert fires(due(TickRule(cron="0 * * * *"), 6 * 3600 + 1, missed)) == expected


def test_the_next_tick_is_the_first_one_after_the_look() -> None:
    decision = decide(due(TickRule(cron="0 * * * *"), 10), NOON + timedelta(seconds=1))
    assert (decision.until, decision.next_at) == (NOON + timedelta(seconds=1), NOON + timedelta(hours=1))


def test_a_clock_that_was_set_back_repeats_nothing() -> None:
    decision = decide(due(TickRule(cron="* * * * *"), -600), NOON)
    assert decision.fires == []
    assert decision.until == NOON + timedelta(minutes=10)
    assert decision.next_at == NOON + timedelta(minutes=11)


def test_a_schedule_of_seconds_that_was_left_alone_for_a_year_costs_no_long_list() -> None:
    rule = TickRule(cron="* * * * * *")
    assert len(fires(due(rule, 366 * 86_400, Missed.ALL, 1000))) == 1061
    assert len(fires(due(rule, 366 * 86_400, Missed.SKIP))) == 61


def test_a_schedule_that_never_fires_again_is_an_error() -> None:
    with pytest.raises(ValueError, match="never fires again"):
        decide(due(TickRule(cron="*/30 2 * 3 0L", tz="Europe/Berlin"), 10), NOON)
