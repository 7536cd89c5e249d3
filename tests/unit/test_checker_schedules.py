"""Tests of I16, and of I7 for schedules: the jobs that ticks make, and the leaders that fire them."""

from __future__ import annotations

import msgspec
import pytest

from taskd.torture.checker import check
from tests.unit.histories import HistoryBuilder, iso


@pytest.fixture
def history() -> HistoryBuilder:
    """Three ticks, a second apart, each with its job."""
    history = HistoryBuilder()
    history.schedule(until=3.4)
    for tick in (1, 2, 3):
        history.fired(float(tick), tick)
    return history


def test_i16_a_tick_that_makes_two_jobs(history: HistoryBuilder) -> None:
    history.store(2.1, 4, dedupe_key=None, by="taskd:leader:L1")
    history.limits[4] = {"schedule": "pulse", "fire_at": iso(2.0)}
    assert history.broken() == {("I16", 2), ("I16", 4)}


def test_i16_a_job_that_was_retried_by_hand_is_no_second_one(history: HistoryBuilder) -> None:
    history.store(2.1, 4, dedupe_key=None)
    history.limits[4] = {"schedule": "pulse", "fire_at": iso(2.0), "parent_id": 2}
    assert history.broken() == set()
    history.fires[1] = msgspec.structs.replace(history.fires[1], job_id=4)  # its tick names it
    assert history.broken() == set()
    history.limits[4] |= {"parent_id": 3}
    assert history.broken() == {("I16", 2), ("I16", 4)}


def test_i16_a_tick_that_is_lost(history: HistoryBuilder) -> None:
    history.schedules[0] = msgspec.structs.replace(
        history.schedules[0], decided_until=history.schedules[0].anchor + 4.4
    )
    (violation,) = check(history.build())
    assert violation.message == "the tick 13:46:44.000 of 'pulse' was lost"


def test_i16_ticks_of_a_cron_expression_are_expected_too(history: HistoryBuilder) -> None:
    schedule = msgspec.structs.replace(history.schedules[0], every=None, cron="* * * * * *")
    history.schedules = [schedule]
    assert history.broken() == set()
    history.schedules = [msgspec.structs.replace(schedule, decided_until=schedule.anchor + 4.4)]
    assert history.broken() == {("I16", None)}


def test_i16_a_schedule_that_was_changed_may_have_lost_ticks_by_that(history: HistoryBuilder) -> None:
    schedule = msgspec.structs.replace(history.schedules[0], decided_until=history.schedules[0].anchor + 4.4)
    history.schedules = [msgspec.structs.replace(schedule, revision=2, paused_at=schedule.decided_until)]
    assert history.broken() == {("I16", None)}  # a pause at the end is no change
    history.schedules = [msgspec.structs.replace(schedule, revision=2)]
    assert history.broken() == set()


def test_i16_a_job_before_its_tick() -> None:
    history = HistoryBuilder()
    history.schedule(until=0.9)
    history.fire(1.0, 1, at=0.9)
    assert history.broken() == {("I16", 1)}


def test_i16_a_job_that_its_tick_does_not_name_and_a_tick_whose_job_is_missing(history: HistoryBuilder) -> None:
    history.fires[1] = msgspec.structs.replace(history.fires[1], job_id=9)
    assert history.broken() == {("I16", 2), ("I16", 9)}
    del history.fires[1]
    assert ("I16", 2) in history.broken()


@pytest.mark.parametrize(
    ("missed", "caught_up", "broken"),
    [
        ("skip", (), False),
        ("skip", (110.0,), True),
        ("once", (130.0,), False),
        ("once", (109.0, 110.0), True),
        ("all", (128.0, 129.0, 130.0), False),
        ("all", (117.0, 118.0, 119.0, 120.0), True),
        ("all", (129.0, 130.0), True),
        ("all", (126.0, 127.0, 128.0), True),
    ],
)
def test_i16_missed_ticks_and_their_policy(missed: str, caught_up: tuple[float, ...], broken: bool) -> None:
    """No leader fires from 10 to 190. The last minute is on time; at most three ticks are caught up."""
    history = HistoryBuilder()
    history.schedule(until=190.5, missed=missed, catch_up=3)
    for job in range(1, 10):
        history.fire(float(job), job)
    on_time = [float(tick) for tick in range(131, 191)]
    for job, tick in enumerate([*caught_up, *on_time], 10):
        history.fire(tick, job, at=190.6 + job / 1e6)
    assert {invariant for invariant, _ in history.broken()} == ({"I16"} if broken else set())


@pytest.mark.parametrize("overlap", ["skip", "queue"])
def test_i16_jobs_that_overlap_although_they_may_not(overlap: str) -> None:
    history = HistoryBuilder()
    history.schedule(until=2.4, overlap=overlap)
    history.fired(1.0, 1, lasts=0.9)
    history.fired(2.0, 2)
    assert history.broken() == set()
    history = HistoryBuilder()
    history.schedule(until=2.4, overlap=overlap)
    history.fired(1.0, 1, lasts=1.2)
    history.fired(2.0, 2)
    assert history.broken() == {("I16", 2)}


def test_i16_a_tick_that_is_skipped_for_nothing() -> None:
    history = HistoryBuilder()
    history.schedule(until=8.4, overlap="skip")
    history.fired(1.0, 1, lasts=5.5)
    for tick in range(2, 9):
        history.fire(float(tick), None, state="skipped")
    assert history.broken() == set()  # what ended a moment ago may have been in the way
    history.fire(9.0, None, state="skipped")
    assert history.broken() == {("I16", None)}
    history.fault(8.5, "SIGSTOP", "postgres", until=9.5)
    assert history.broken() == set()


def test_i7_a_tick_that_is_fired_by_a_former_leader(history: HistoryBuilder) -> None:
    history.takeover(3.5, 2, "L2")
    history.schedules[0] = msgspec.structs.replace(
        history.schedules[0], decided_until=history.schedules[0].anchor + 4.4
    )
    history.fire(4.0, 4)
    assert history.broken() == {("I7", 4)}


def test_i7_the_leader_of_shard_0_fires_schedules_whatever_their_queue() -> None:
    history = HistoryBuilder()
    history.terms.clear()
    history.takeover(-130.0, 1, "L1", 0, 3)
    history.takeover(-130.0, 1, "L2", 1, 3)
    history.fire(1.0, 1)
    history.events[-1] = msgspec.structs.replace(history.events[-1], queue="queue-1")
    assert history.broken() == set()
    history.events[-1] = msgspec.structs.replace(history.events[-1], by="taskd:leader:L2")
    assert history.broken() == {("I7", 1)}
