"""I19: attempts that say something after their end."""

from __future__ import annotations

import pytest

from tests.unit.histories import Story


@pytest.fixture
def story() -> Story:
    """Job 1 runs from 0.2 on."""
    made = Story()
    made.submit(0.0, 1)
    made.dispatch(0.1, 1)
    made.claim(0.2, 1)
    return made


def late(story: Story) -> set[tuple[str, int | None]]:
    return {one for one in story.broken() if one[0] == "I19"}


@pytest.mark.parametrize(("said", "broken"), [(0.3, set()), (1.0, set()), (1.2, {("I19", 1)})])
def test_i19_what_is_stored_after_a_retry(story: Story, said: float, broken: set[tuple[str, int]]) -> None:
    story.settle(1.0, 1, "pending", failures=1, schedule_at=10.0)
    story.say(said, 1)
    assert late(story) == broken


def test_i19_another_attempt_may_go_on(story: Story) -> None:
    story.settle(1.0, 1, "pending", failures=1, schedule_at=4.0)
    story.dispatch(4.1, 1)
    story.claim(4.2, 1)
    story.say(4.3, 1, attempt=2)
    assert late(story) == set()
    story.say(4.4, 1, attempt=1)
    assert late(story) == {("I19", 1)}


def test_i19_a_cancelled_attempt_has_its_last_words(story: Story) -> None:
    story.move(1.0, 1, "cancelled", by="taskd:cancel:s1")
    story.say(2.0, 1)
    assert late(story) == set()
