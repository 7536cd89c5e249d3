"""Tests of I18 (checkpoints and progress), and of I1, I11 and I12: children, locks that a task relies on, and snoozes."""

from __future__ import annotations

import pytest

from taskd.torture.history import ProgressEvent
from tests.unit.histories import START, HistoryBuilder


@pytest.fixture
def history() -> HistoryBuilder:
    """History in which job 1 stores steps 1 and 2 in its first attempt, and gets step 2 in its second."""
    history = HistoryBuilder()
    history.submit(0.0, 1)
    begin(history, 1, 0.0, (0, 0))
    save(history, 1, 0.4, 1)
    save(history, 1, 0.5, 2)
    fail(history, 0.9)
    begin(history, 2, 3.0, (1, 2))
    return history


def begin(history: HistoryBuilder, attempt: int, at: float, given: tuple[int, int]) -> None:
    history.dispatch(at + 0.1, 1)
    history.claim(at + 0.2, 1)
    history.sign(at + 0.3, 1, attempt, "start")
    history.sign(at + 0.3, 1, attempt, "resume", *map(str, given))


def save(history: HistoryBuilder, attempt: int, at: float, step: int, *, returned: bool = True) -> None:
    history.sign(at, 1, attempt, "save", str(step))
    if returned:
        history.sign(at + 0.05, 1, attempt, "saved", str(step))


def fail(history: HistoryBuilder, at: float) -> None:
    failures = history.events[-1].failures + 1
    due = START + at + 2.0 * 2 ** (failures - 1)
    history.settle(at, 1, "pending", failures=failures, schedule_at=due)


def test_i18_a_checkpoint_that_comes_back_is_right(history: HistoryBuilder) -> None:
    assert history.broken() == set()


def test_i18_a_checkpoint_whose_save_did_not_return_may_come_back(history: HistoryBuilder) -> None:
    save(history, 2, 3.4, 3, returned=False)
    fail(history, 3.9)
    begin(history, 3, 8.0, (2, 3))
    assert history.broken() == set()


@pytest.mark.parametrize("given", [(1, 2), (0, 0)])
def test_i18_a_checkpoint_that_is_lost(history: HistoryBuilder, given: tuple[int, int]) -> None:
    save(history, 2, 3.4, 3)
    fail(history, 3.9)
    begin(history, 3, 8.0, given)
    assert ("I18", 1) in history.broken()


def test_i18_a_checkpoint_that_no_attempt_saved(history: HistoryBuilder) -> None:
    fail(history, 3.9)
    begin(history, 3, 8.0, (2, 7))
    assert history.broken() == {("I18", 1)}


def test_i18_a_checkpoint_of_an_attempt_that_had_lost_its_claim(history: HistoryBuilder) -> None:
    """The step is beyond the one that the second attempt got, so only its attempt shows that it is wrong."""
    save(history, 1, 0.6, 3, returned=False)
    fail(history, 3.9)
    begin(history, 3, 8.0, (1, 3))
    assert history.broken() == {("I18", 1)}


def test_i18_the_progress_of_a_completed_job() -> None:
    for reported, shown, broken in (
        ("0.75", ProgressEvent(1, 0.75), set()),
        ("0.75", ProgressEvent(1, 0.5), {("I18", 1)}),
        ("0.75", None, {("I18", 1)}),
    ):
        history = HistoryBuilder()
        history.whole(0.0, 1)
        history.sign(0.4, 1, 1, "told", "0.5")
        history.sign(0.5, 1, 1, "told", reported)
        history.limits[1] = {"progress": shown}
        assert history.broken() == broken


def test_i1_a_child_of_another_parent_with_another_key_or_not_there() -> None:
    history = HistoryBuilder()
    history.whole(0.0, 1)
    history.sign(0.4, 1, 1, "child", "c", "2")
    assert history.broken() == {("I1", 1)}
    history.store(0.4, 2, dedupe_key="c")
    assert history.broken() == {("I1", 2)}
    history.limits[2] = {"parent_id": 1}
    assert history.broken() == set()
    history.sign(0.5, 1, 1, "child", "d", "2")
    assert history.broken() == {("I1", 2)}


def test_i12_a_snooze_that_costs_a_retry_and_one_that_is_too_short(history: HistoryBuilder) -> None:
    history.sign(3.5, 1, 2, "snooze", "2.0")
    history.settle(3.6, 1, "pending", schedule_at=START + 5.6)
    assert history.broken() == set()
    history.events.pop()
    history.settle(3.6, 1, "pending", schedule_at=START + 4.6)
    assert history.broken() == {("I12", 1)}
    history.events.pop()
    history.settle(3.6, 1, "pending", schedule_at=START + 9.6, failures=2)
    assert history.broken() == {("I12", 1)}


def test_i11_a_lock_that_a_task_only_believes_to_hold() -> None:
    """Job 1 still relies on the lock while job 2 already holds it."""
    history = HistoryBuilder()
    for job, at in ((1, 0.0), (2, 1.0)):
        history.submit(at, job)
        history.dispatch(at + 0.1, job)
        history.claim(at + 0.2, job)
        history.sign(at + 0.3, job, 1, "start")
        history.sign(at + 0.4, job, 1, "lock", "door", str(job))
    history.sign(1.3, 1, 1, "believe", "door", "1")
    assert history.broken() == set()
    history.sign(1.5, 1, 1, "believe", "door", "1")
    assert history.broken() == {("I11", 2)}
    history.fault(0.5, "SIGSTOP", "w2", until=2.0)
    assert history.broken() == {("I11", 2)}
    history.fault(0.5, "SIGSTOP", "w1", until=2.0)
    assert history.broken() == set()
    history.sign(1.6, 1, 1, "held", "door", "1")  # a lock that was checked is no belief
    assert history.broken() == {("I11", 2)}
