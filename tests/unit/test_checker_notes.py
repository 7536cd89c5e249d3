"""I18: checkpoints and progress. I1, I11, I12: children, locks that a task relies on, and snoozes."""

from __future__ import annotations

import pytest

from taskd.torture.history import ProgressEvent
from tests.unit.histories import START, Story


@pytest.fixture
def story() -> Story:
    """Job 1 stores step 1 and 2 in its first attempt, and is handed step 2 in its second."""
    made = Story()
    made.submit(0.0, 1)
    begin(made, 1, 0.0, (0, 0))
    save(made, 1, 0.4, 1)
    save(made, 1, 0.5, 2)
    fail(made, 0.9)
    begin(made, 2, 3.0, (1, 2))
    return made


def begin(story: Story, attempt: int, at: float, given: tuple[int, int]) -> None:
    story.dispatch(at + 0.1, 1)
    story.claim(at + 0.2, 1)
    story.sign(at + 0.3, 1, attempt, "start")
    story.sign(at + 0.3, 1, attempt, "resume", *map(str, given))


def save(story: Story, attempt: int, at: float, step: int, *, returned: bool = True) -> None:
    story.sign(at, 1, attempt, "save", str(step))
    if returned:
        story.sign(at + 0.05, 1, attempt, "saved", str(step))


def fail(story: Story, at: float) -> None:
    failures = story.events[-1].failures + 1
    due = START + at + 2.0 * 2 ** (failures - 1)
    story.settle(at, 1, "pending", failures=failures, schedule_at=due)


def test_i18_a_checkpoint_that_comes_back_is_right(story: Story) -> None:
    assert story.broken() == set()


def test_i18_a_checkpoint_that_was_handed_in_and_whose_call_did_not_return_may_come_back(story: Story) -> None:
    save(story, 2, 3.4, 3, returned=False)
    fail(story, 3.9)
    begin(story, 3, 8.0, (2, 3))
    assert story.broken() == set()


@pytest.mark.parametrize("given", [(1, 2), (0, 0)])
def test_i18_a_checkpoint_that_is_lost(story: Story, given: tuple[int, int]) -> None:
    save(story, 2, 3.4, 3)
    fail(story, 3.9)
    begin(story, 3, 8.0, given)
    assert ("I18", 1) in story.broken()


def test_i18_a_checkpoint_that_nobody_handed_in(story: Story) -> None:
    fail(story, 3.9)
    begin(story, 3, 8.0, (2, 7))
    assert story.broken() == {("I18", 1)}


def test_i18_a_checkpoint_of_an_attempt_that_had_lost_its_claim(story: Story) -> None:
    """Further than what the second attempt was handed, so nothing went back: only whose it is tells."""
    save(story, 1, 0.6, 3, returned=False)
    fail(story, 3.9)
    begin(story, 3, 8.0, (1, 3))
    assert story.broken() == {("I18", 1)}


def test_i18_the_progress_of_a_completed_job() -> None:
    for told, shown, broken in (
        ("0.75", ProgressEvent(1, 0.75), set()),
        ("0.75", ProgressEvent(1, 0.5), {("I18", 1)}),
        ("0.75", None, {("I18", 1)}),
    ):
        story = Story()
        story.whole(0.0, 1)
        story.sign(0.4, 1, 1, "told", "0.5")
        story.sign(0.5, 1, 1, "told", told)
        story.limits[1] = {"progress": shown}
        assert story.broken() == broken


def test_i1_a_child_of_another_parent_with_another_key_or_not_there() -> None:
    story = Story()
    story.whole(0.0, 1)
    story.sign(0.4, 1, 1, "child", "c", "2")
    assert story.broken() == {("I1", 1)}
    story.store(0.4, 2, dedupe_key="c")
    assert story.broken() == {("I1", 2)}
    story.limits[2] = {"parent_id": 1}
    assert story.broken() == set()
    story.sign(0.5, 1, 1, "child", "d", "2")
    assert story.broken() == {("I1", 2)}


def test_i12_a_snooze_that_costs_a_retry_and_one_that_is_too_short(story: Story) -> None:
    story.sign(3.5, 1, 2, "snooze", "2.0")
    story.settle(3.6, 1, "pending", schedule_at=START + 5.6)
    assert story.broken() == set()
    story.events.pop()
    story.settle(3.6, 1, "pending", schedule_at=START + 4.6)
    assert story.broken() == {("I12", 1)}
    story.events.pop()
    story.settle(3.6, 1, "pending", schedule_at=START + 9.6, failures=2)
    assert story.broken() == {("I12", 1)}


def test_i11_a_lock_that_is_only_believed_in() -> None:
    """Job 1 goes on in the belief while job 2 holds the lock already."""
    story = Story()
    for job, at in ((1, 0.0), (2, 1.0)):
        story.submit(at, job)
        story.dispatch(at + 0.1, job)
        story.claim(at + 0.2, job)
        story.sign(at + 0.3, job, 1, "start")
        story.sign(at + 0.4, job, 1, "lock", "door", str(job))
    story.sign(1.3, 1, 1, "believe", "door", "1")
    assert story.broken() == set()
    story.sign(1.5, 1, 1, "believe", "door", "1")
    assert story.broken() == {("I11", 2)}
    story.fault(0.5, "SIGSTOP", "w2", until=2.0)
    assert story.broken() == {("I11", 2)}
    story.fault(0.5, "SIGSTOP", "w1", until=2.0)
    assert story.broken() == set()
    story.sign(1.6, 1, 1, "held", "door", "1")  # whoever looks knows
    assert story.broken() == {("I11", 2)}
