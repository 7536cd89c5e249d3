"""I13, I14: cancels that did not hold, and jobs that never end."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from taskd.torture.history import RedisLeft
from tests.unit.histories import START, Story


def cancelled(signs_until: float) -> Story:
    """Job 1 runs, and is cancelled at 2."""
    story = Story()
    story.submit(0.0, 1)
    story.dispatch(0.1, 1)
    story.claim(0.2, 1)
    story.run(0.3, signs_until, 1, ends=False)
    story.step(1.9, "cancel", id=1)
    story.move(2.0, 1, "cancelled", by="taskd:intake:s1", session_id="s1", worker_id="w1")
    story.step(2.1, "cancel_ok", id=1, status="cancelled")
    return story


# ---------------------------------------------------------------- I13


@pytest.mark.parametrize(("until", "broken"), [(11.9, set()), (13.0, {("I13", 1)})])
def test_i13_a_task_that_goes_on_after_its_cancel(until: float, broken: set[tuple[str, int]]) -> None:
    assert cancelled(until).broken() == broken


@pytest.mark.parametrize(("until", "broken"), [(29.0, set()), (41.0, {("I13", 1)})])
def test_i13_faults_put_off_the_bound_until_they_are_healed(until: float, broken: set[tuple[str, int]]) -> None:
    story = cancelled(until)
    story.fault(1.0, "SIGSTOP", "w1")
    story.meta["healed_at"] = START + 20.0
    assert story.broken() == broken


def test_i13_a_fault_long_before_puts_off_nothing() -> None:
    story = cancelled(13.0)
    story.fault(-50.0, "SIGKILL", "w9")
    assert story.broken() == {("I13", 1)}


def test_i13_a_cancel_that_was_accepted_and_not_made() -> None:
    story = Story()
    story.whole(0.0, 1)
    story.step(0.5, "cancel_ok", id=1, status="cancelled")
    assert story.broken() == {("I13", 1)}


def test_i13_a_claim_after_the_cancel() -> None:
    story = Story()
    story.submit(0.0, 1)
    story.dispatch(0.1, 1)
    story.move(0.2, 1, "cancelled", by="taskd:intake:s1")
    story.step(0.3, "cancel_ok", id=1, status="cancelled")
    assert story.broken() == set()
    story.claim(0.4, 1)
    assert ("I13", 1) in story.broken()


def test_i13_a_cancel_that_was_refused_too_early() -> None:
    story = Story()
    story.whole(0.0, 1)
    story.step(0.8, "cancel_late", id=1, status="completed")
    assert story.broken() == set()
    story.step(0.9, "cancel_late", id=1, status="failed")
    assert story.broken() == {("I13", 1)}
    story = Story()
    story.submit(0.0, 1)
    story.step(0.8, "cancel_late", id=1, status="completed")
    assert story.broken() == {("I13", 1)}


# ---------------------------------------------------------------- I14


def quiet(redis: RedisLeft | None = None, **fields: Any) -> Story:
    story = Story()
    story.whole(0.0, 1)
    story.submit(0.1, 2, **fields)
    story.meta |= {"quiet": True, "redis": redis}
    return story


def test_i14_a_job_that_is_not_over() -> None:
    assert quiet().broken() == {("I14", 2)}


def test_i14_a_job_that_is_not_due_may_wait() -> None:
    assert quiet(due=500.0).broken() == set()


def test_i14_nothing_is_asked_of_a_run_that_was_not_to_be_quiet() -> None:
    story = quiet()
    story.meta["quiet"] = False
    assert story.broken() == set()


@pytest.mark.parametrize(("entries", "pending"), [(1, 0), (0, 1)])
def test_i14_what_is_left_in_redis(entries: int, pending: int) -> None:
    assert quiet(RedisLeft(entries, pending), due=500.0).broken() == {("I14", None)}


def test_i14_an_empty_redis() -> None:
    assert quiet(RedisLeft(0, 0), due=500.0).broken() == set()


def test_i14_a_job_that_hangs_in_queued() -> None:
    story = quiet(due=0.2)
    story.dispatch(2.0, 2)
    story.events[-1] = msgspec.structs.replace(story.events[-1], schedule_at=START + 500)
    assert story.broken() == {("I14", 2)}
