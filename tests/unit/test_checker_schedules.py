"""I16, and I7 for schedules: what a tick makes, what it does not, and by whom."""

from __future__ import annotations

import msgspec
import pytest

from taskd.torture.checker import check
from tests.unit.histories import Story, iso


@pytest.fixture
def story() -> Story:
    """Three ticks, a second apart, each with its job."""
    made = Story()
    made.schedule(until=3.4)
    for tick in (1, 2, 3):
        made.fired(float(tick), tick)
    return made


def test_i16_a_tick_that_makes_two_jobs(story: Story) -> None:
    story.store(2.1, 4, dedupe_key=None, by="taskd:leader:L1")
    story.limits[4] = {"schedule": "pulse", "fire_at": iso(2.0)}
    assert story.broken() == {("I16", 2), ("I16", 4)}


def test_i16_a_job_that_was_retried_by_hand_is_no_second_one(story: Story) -> None:
    story.store(2.1, 4, dedupe_key=None)
    story.limits[4] = {"schedule": "pulse", "fire_at": iso(2.0), "parent_id": 2}
    assert story.broken() == set()
    story.fires[1] = msgspec.structs.replace(story.fires[1], job_id=4)  # its tick knows it
    assert story.broken() == set()
    story.limits[4] |= {"parent_id": 3}
    assert story.broken() == {("I16", 2), ("I16", 4)}


def test_i16_a_tick_that_is_lost(story: Story) -> None:
    story.schedules[0] = msgspec.structs.replace(story.schedules[0], decided_until=story.schedules[0].anchor + 4.4)
    (found,) = check(story.history())
    assert found.message == "the tick 13:46:44.000 of 'pulse' was lost"


def test_i16_ticks_of_a_cron_expression_are_expected_too(story: Story) -> None:
    schedule = msgspec.structs.replace(story.schedules[0], every=None, cron="* * * * * *")
    story.schedules = [schedule]
    assert story.broken() == set()
    story.schedules = [msgspec.structs.replace(schedule, decided_until=schedule.anchor + 4.4)]
    assert story.broken() == {("I16", None)}


def test_i16_a_schedule_that_was_changed_may_have_lost_ticks_by_that(story: Story) -> None:
    schedule = msgspec.structs.replace(story.schedules[0], decided_until=story.schedules[0].anchor + 4.4)
    story.schedules = [msgspec.structs.replace(schedule, revision=2, paused_at=schedule.decided_until)]
    assert story.broken() == {("I16", None)}  # a pause at the end is no change
    story.schedules = [msgspec.structs.replace(schedule, revision=2)]
    assert story.broken() == set()


def test_i16_a_job_before_its_tick() -> None:
    story = Story()
    story.schedule(until=0.9)
    story.fire(1.0, 1, at=0.9)
    assert story.broken() == {("I16", 1)}


def test_i16_a_job_that_its_tick_does_not_know_and_a_tick_whose_job_is_not_there(story: Story) -> None:
    story.fires[1] = msgspec.structs.replace(story.fires[1], job_id=9)
    assert story.broken() == {("I16", 2), ("I16", 9)}
    del story.fires[1]
    assert ("I16", 2) in story.broken()


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
    """Nobody is there from 10 to 190; the last minute is on time. At most three are caught up with."""
    story = Story()
    story.schedule(until=190.5, missed=missed, catch_up=3)
    for job in range(1, 10):
        story.fire(float(job), job)
    on_time = [float(tick) for tick in range(131, 191)]
    for job, tick in enumerate([*caught_up, *on_time], 10):
        story.fire(tick, job, at=190.6 + job / 1e6)
    assert {invariant for invariant, _ in story.broken()} == ({"I16"} if broken else set())


@pytest.mark.parametrize("overlap", ["skip", "queue"])
def test_i16_jobs_that_overlap_although_they_may_not(overlap: str) -> None:
    story = Story()
    story.schedule(until=2.4, overlap=overlap)
    story.fired(1.0, 1, lasts=0.9)
    story.fired(2.0, 2)
    assert story.broken() == set()
    story = Story()
    story.schedule(until=2.4, overlap=overlap)
    story.fired(1.0, 1, lasts=1.2)
    story.fired(2.0, 2)
    assert story.broken() == {("I16", 2)}


def test_i16_a_tick_that_is_skipped_for_nothing() -> None:
    story = Story()
    story.schedule(until=8.4, overlap="skip")
    story.fired(1.0, 1, lasts=5.5)
    for tick in range(2, 9):
        story.fire(float(tick), None, state="skipped")
    assert story.broken() == set()  # what ended a moment ago may have been in the way
    story.fire(9.0, None, state="skipped")
    assert story.broken() == {("I16", None)}
    story.fault(8.5, "SIGSTOP", "postgres", until=9.5)
    assert story.broken() == set()


def test_i7_a_tick_that_is_fired_by_one_who_does_not_lead(story: Story) -> None:
    story.takeover(3.5, 2, "L2")
    story.schedules[0] = msgspec.structs.replace(story.schedules[0], decided_until=story.schedules[0].anchor + 4.4)
    story.fire(4.0, 4)
    assert story.broken() == {("I7", 4)}


def test_i7_schedules_are_the_business_of_shard_0_whatever_their_queue() -> None:
    story = Story()
    story.terms.clear()
    story.takeover(-130.0, 1, "L1", 0, 3)
    story.takeover(-130.0, 1, "L2", 1, 3)
    story.fire(1.0, 1)
    story.events[-1] = msgspec.structs.replace(story.events[-1], queue="queue-1")
    assert story.broken() == set()
    story.events[-1] = msgspec.structs.replace(story.events[-1], by="taskd:leader:L2")
    assert story.broken() == {("I7", 1)}
