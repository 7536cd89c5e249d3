"""Tests of the invariants I5, I6 and I11: ends of attempts, attempts that overlap, and locks."""

from __future__ import annotations

import msgspec
import pytest

from tests.unit.histories import HistoryBuilder, running_on_w2


@pytest.fixture
def history() -> HistoryBuilder:
    return running_on_w2()


# ---------------------------------------------------------------- I5


def test_i5_another_worker_closes_the_attempt(history: HistoryBuilder) -> None:
    history.run(0.3, 0.4, 1)
    history.settle(0.5, 1, worker="w1")
    assert history.broken() == {("I5", 1)}


def test_i5_a_leader_closes_the_attempt_of_a_living_session(history: HistoryBuilder) -> None:
    history.move(6.0, 1, "pending", by="taskd:leader:L1", losses=1)
    assert history.broken() == {("I5", 1)}
    history.end(6.5, "s2", "w2")
    assert history.broken() == {("I5", 1)}


def test_i5_a_leader_may_close_an_attempt_of_a_worker_that_left(history: HistoryBuilder) -> None:
    history.end(1.0, "s2", "w2", by="taskd:session:w2")
    history.move(1.1, 1, "pending", by="taskd:leader:L1", losses=1)
    assert history.broken() == set()


def test_i5_the_attempt_of_another_session_is_closed(history: HistoryBuilder) -> None:
    history.run(0.3, 0.4, 1)
    history.settle(0.5, 1, worker="w2", session_id="s1")
    assert history.broken() == {("I5", 1)}


def test_i5_an_attempt_is_closed_twice(history: HistoryBuilder) -> None:
    history.run(0.3, 0.4, 1)
    history.settle(0.5, 1, worker="w2")
    history.settle(0.6, 1, worker="w2", from_status="running")
    assert ("I5", 1) in history.broken()


def test_i5_a_claim_while_another_one_is_open(history: HistoryBuilder) -> None:
    history.claim(0.4, 1, from_status="queued")
    assert ("I5", 1) in history.broken()


def test_i5_long_names_of_workers_are_cut(history: HistoryBuilder) -> None:
    name = "w" * 60
    history.open(0.0, "s3", name)
    history.submit(0.0, 2)
    history.dispatch(0.1, 2)
    history.claim(0.2, 2, session="s3", worker=name)
    history.run(0.3, 0.4, 2)
    history.settle(0.5, 2, worker=name[:40])
    assert history.broken() == set()


# ---------------------------------------------------------------- I6


def test_i6_a_job_that_completed_without_running_to_its_end(history: HistoryBuilder) -> None:
    history.whole(0.0, 2)
    history.sign(0.3, 1, 1, "start")
    history.settle(0.5, 1, worker="w2")
    assert history.broken() == {("I6", 1)}


def test_i6_a_job_that_completed_without_running_at_all(history: HistoryBuilder) -> None:
    history.whole(0.0, 2)
    history.settle(0.5, 1, worker="w2")
    assert history.broken() == {("I6", 1)}


def test_i6_a_task_that_never_writes_a_trace_is_not_judged(history: HistoryBuilder) -> None:
    history.whole(0.0, 2)
    history.events = [msgspec.structs.replace(e, task="echo") if e.job_id == 1 else e for e in history.events]
    history.settle(0.5, 1, worker="w2")
    assert history.broken() == set()


def test_i6_a_completion_that_came_before_the_end(history: HistoryBuilder) -> None:
    history.run(0.3, 5.0, 1)
    history.settle(0.5, 1, worker="w2")
    assert history.broken() == {("I6", 1)}


def test_i6_a_completion_of_another_attempt_than_the_last(history: HistoryBuilder) -> None:
    history.end(6.0, "s2", "w2")
    history.run(0.3, 0.4, 1)
    history.move(6.1, 1, "pending", by="taskd:leader:L1", losses=1)
    history.dispatch(6.2, 1)
    history.claim(6.3, 1)
    history.settle(6.6, 1, attempt=1)
    assert ("I6", 1) in history.broken()


def test_i6_a_late_result_of_an_attempt_that_was_lost(history: HistoryBuilder) -> None:
    """Settling by status alone: the first attempt's result closes the second one."""
    history.run(0.3, 0.4, 1)
    history.end(6.0, "s2", "w2")
    history.move(6.1, 1, "pending", by="taskd:leader:L1", losses=1)
    history.dispatch(6.2, 1)
    history.claim(6.3, 1)
    history.run(6.4, 7.0, 1, 2, ends=False)
    assert history.broken() == set()
    history.settle(6.6, 1, worker="w2")
    assert history.broken() == {("I5", 1), ("I6", 1)}


@pytest.mark.parametrize(("last", "broken"), [(6.39, set()), (6.41, {("I6", 1)})])
def test_i6_attempts_that_run_at_the_same_time(
    history: HistoryBuilder, last: float, broken: set[tuple[str, int]]
) -> None:
    history.run(0.3, last, 1, ends=False)
    history.end(6.0, "s2", "w2")
    history.move(6.1, 1, "pending", by="taskd:leader:L1", losses=1)
    history.dispatch(6.2, 1)
    history.claim(6.3, 1)
    history.run(6.4, 7.0, 1, 2)
    history.settle(7.1, 1)
    assert history.broken() == broken


def test_i6_a_run_without_a_claim_or_started_twice(history: HistoryBuilder) -> None:
    history.sign(0.3, 1, 1, "start")
    assert history.broken() == set()
    history.sign(0.4, 1, 1, "start")
    assert history.broken() == {("I6", 1)}
    history.trace.pop()
    history.sign(0.4, 1, 2, "start")
    assert history.broken() == {("I6", 1)}


# ---------------------------------------------------------------- I11


def locking(first_until: float, second_since: float, fences: tuple[str, str] = ("1", "2")) -> HistoryBuilder:
    history = HistoryBuilder()
    for job, since, until, fence in ((1, 0.4, first_until, fences[0]), (2, second_since, 9.0, fences[1])):
        history.submit(0.0, job)
        history.dispatch(0.1, job)
        history.claim(0.2, job)
        history.sign(0.3, job, 1, "start")
        history.sign(since, job, 1, "lock", "till", fence)
        history.sign(until, job, 1, "held", "till", fence)
    return history


def test_i11_a_lock_with_two_holders() -> None:
    assert locking(1.0, 1.1).broken() == set()
    assert locking(1.2, 1.1).broken() == {("I11", 2)}


def test_i11_a_fence_that_does_not_rise() -> None:
    assert locking(1.0, 1.1, ("2", "2")).broken() == {("I11", 2)}
    assert locking(1.0, 1.1, ("9", "10")).broken() == set()


def test_i11_a_short_hold_hides_no_long_one() -> None:
    history = locking(5.0, 6.0)
    history.sign(0.5, 1, 1, "lock", "other", "7")
    history.submit(0.0, 3)
    history.dispatch(0.1, 3)
    history.claim(0.2, 3)
    history.sign(0.25, 3, 1, "lock", "till", "0")
    history.sign(0.26, 3, 1, "unlock", "till", "0")
    assert history.broken() == set()
    history.sign(5.5, 3, 1, "lock", "till", "1")
    assert ("I11", 3) in history.broken()
