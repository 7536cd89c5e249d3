"""I5, I6, I11: who may close an attempt, and what may run beside what."""

from __future__ import annotations

import msgspec
import pytest

from tests.unit.histories import Story


@pytest.fixture
def story() -> Story:
    """Job 1 runs on worker w2, whose lease ends at 5."""
    made = Story()
    made.open(-10.0, "s2", "w2")
    made.submit(0.0, 1)
    made.dispatch(0.1, 1)
    made.claim(0.2, 1, session="s2", worker="w2")
    return made


# ---------------------------------------------------------------- I5


def test_i5_another_worker_closes_the_attempt(story: Story) -> None:
    story.run(0.3, 0.4, 1)
    story.settle(0.5, 1, worker="w1")
    assert story.broken() == {("I5", 1)}


def test_i5_a_leader_closes_the_attempt_of_a_living_session(story: Story) -> None:
    story.move(6.0, 1, "pending", by="taskd:leader:L1", losses=1)
    assert story.broken() == {("I5", 1)}
    story.end(6.5, "s2", "w2")
    assert story.broken() == {("I5", 1)}


def test_i5_a_leader_may_close_what_a_worker_that_left_had_open(story: Story) -> None:
    story.end(1.0, "s2", "w2", by="taskd:session:w2")
    story.move(1.1, 1, "pending", by="taskd:leader:L1", losses=1)
    assert story.broken() == set()


def test_i5_the_attempt_of_another_session_is_closed(story: Story) -> None:
    story.run(0.3, 0.4, 1)
    story.settle(0.5, 1, worker="w2", session_id="s1")
    assert story.broken() == {("I5", 1)}


def test_i5_an_attempt_is_closed_twice(story: Story) -> None:
    story.run(0.3, 0.4, 1)
    story.settle(0.5, 1, worker="w2")
    story.settle(0.6, 1, worker="w2", from_status="running")
    assert ("I5", 1) in story.broken()


def test_i5_a_claim_while_another_one_is_open(story: Story) -> None:
    story.claim(0.4, 1, from_status="queued")
    assert ("I5", 1) in story.broken()


def test_i5_long_names_of_workers_are_cut(story: Story) -> None:
    name = "w" * 60
    story.open(0.0, "s3", name)
    story.submit(0.0, 2)
    story.dispatch(0.1, 2)
    story.claim(0.2, 2, session="s3", worker=name)
    story.run(0.3, 0.4, 2)
    story.settle(0.5, 2, worker=name[:40])
    assert story.broken() == set()


# ---------------------------------------------------------------- I6


def test_i6_a_job_that_completed_without_running_to_its_end(story: Story) -> None:
    story.whole(0.0, 2)
    story.sign(0.3, 1, 1, "start")
    story.settle(0.5, 1, worker="w2")
    assert story.broken() == {("I6", 1)}


def test_i6_a_job_that_completed_without_running_at_all(story: Story) -> None:
    story.whole(0.0, 2)
    story.settle(0.5, 1, worker="w2")
    assert story.broken() == {("I6", 1)}


def test_i6_a_task_that_never_writes_a_trace_is_let_go(story: Story) -> None:
    story.whole(0.0, 2)
    story.events = [msgspec.structs.replace(e, task="echo") if e.job_id == 1 else e for e in story.events]
    story.settle(0.5, 1, worker="w2")
    assert story.broken() == set()


def test_i6_a_completion_that_came_before_the_end(story: Story) -> None:
    story.run(0.3, 5.0, 1)
    story.settle(0.5, 1, worker="w2")
    assert story.broken() == {("I6", 1)}


def test_i6_a_completion_of_another_attempt_than_the_last(story: Story) -> None:
    story.end(6.0, "s2", "w2")
    story.run(0.3, 0.4, 1)
    story.move(6.1, 1, "pending", by="taskd:leader:L1", losses=1)
    story.dispatch(6.2, 1)
    story.claim(6.3, 1)
    story.settle(6.6, 1, attempt=1)
    assert ("I6", 1) in story.broken()


def test_i6_a_late_result_of_an_attempt_that_was_lost(story: Story) -> None:
    """Settling by status alone: the first attempt's result closes the second one."""
    story.run(0.3, 0.4, 1)
    story.end(6.0, "s2", "w2")
    story.move(6.1, 1, "pending", by="taskd:leader:L1", losses=1)
    story.dispatch(6.2, 1)
    story.claim(6.3, 1)
    story.run(6.4, 7.0, 1, 2, ends=False)
    assert story.broken() == set()
    story.settle(6.6, 1, worker="w2")
    assert story.broken() == {("I5", 1), ("I6", 1)}


@pytest.mark.parametrize(("last", "broken"), [(6.39, set()), (6.41, {("I6", 1)})])
def test_i6_attempts_that_run_at_the_same_time(story: Story, last: float, broken: set[tuple[str, int]]) -> None:
    story.run(0.3, last, 1, ends=False)
    story.end(6.0, "s2", "w2")
    story.move(6.1, 1, "pending", by="taskd:leader:L1", losses=1)
    story.dispatch(6.2, 1)
    story.claim(6.3, 1)
    story.run(6.4, 7.0, 1, 2)
    story.settle(7.1, 1)
    assert story.broken() == broken


def test_i6_a_run_without_a_claim_or_started_twice(story: Story) -> None:
    story.sign(0.3, 1, 1, "start")
    assert story.broken() == set()
    story.sign(0.4, 1, 1, "start")
    assert story.broken() == {("I6", 1)}
    story.trace.pop()
    story.sign(0.4, 1, 2, "start")
    assert story.broken() == {("I6", 1)}


# ---------------------------------------------------------------- I11


def locking(first_until: float, second_since: float, fences: tuple[str, str] = ("1", "2")) -> Story:
    story = Story()
    for job, since, until, fence in ((1, 0.4, first_until, fences[0]), (2, second_since, 9.0, fences[1])):
        story.submit(0.0, job)
        story.dispatch(0.1, job)
        story.claim(0.2, job)
        story.sign(0.3, job, 1, "start")
        story.sign(since, job, 1, "lock", "till", fence)
        story.sign(until, job, 1, "held", "till", fence)
    return story


def test_i11_a_lock_with_two_holders() -> None:
    assert locking(1.0, 1.1).broken() == set()
    assert locking(1.2, 1.1).broken() == {("I11", 2)}


def test_i11_a_fence_that_does_not_rise() -> None:
    assert locking(1.0, 1.1, ("2", "2")).broken() == {("I11", 2)}
    assert locking(1.0, 1.1, ("9", "10")).broken() == set()


def test_i11_a_short_hold_hides_no_long_one() -> None:
    story = locking(5.0, 6.0)
    story.sign(0.5, 1, 1, "lock", "other", "7")
    story.submit(0.0, 3)
    story.dispatch(0.1, 3)
    story.claim(0.2, 3)
    story.sign(0.25, 3, 1, "lock", "till", "0")
    story.sign(0.26, 3, 1, "unlock", "till", "0")
    assert story.broken() == set()
    story.sign(5.5, 3, 1, "lock", "till", "1")
    assert ("I11", 3) in story.broken()
