"""Tests of the invariants I13 and I14: cancels that were not kept, and jobs that never end."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from taskd.torture.history import RedisLeft
from tests.unit.histories import START, HistoryBuilder


def cancelled(signs_until: float) -> HistoryBuilder:
    """Return a history in which job 1 runs and is cancelled at 2."""
    history = HistoryBuilder()
    history.submit(0.0, 1)
    history.dispatch(0.1, 1)
    history.claim(0.2, 1)
    history.run(0.3, signs_until, 1, ends=False)
    history.step(1.9, "cancel", id=1)
    history.move(2.0, 1, "cancelled", by="taskd:intake:s1", session_id="s1", worker_id="w1")
    history.step(2.1, "cancel_ok", id=1, status="cancelled")
    return history


# ---------------------------------------------------------------- I13


@pytest.mark.parametrize(("until", "broken"), [(11.9, set()), (13.0, {("I13", 1)})])
def test_i13_a_task_that_goes_on_after_its_cancel(until: float, broken: set[tuple[str, int]]) -> None:
    assert cancelled(until).broken() == broken


@pytest.mark.parametrize(("until", "broken"), [(29.0, set()), (41.0, {("I13", 1)})])
def test_i13_faults_put_off_the_bound_until_they_are_healed(until: float, broken: set[tuple[str, int]]) -> None:
    history = cancelled(until)
    history.fault(1.0, "SIGSTOP", "w1")
    history.meta["healed_at"] = START + 20.0
    assert history.broken() == broken


def test_i13_a_fault_long_before_puts_off_nothing() -> None:
    history = cancelled(13.0)
    history.fault(-50.0, "SIGKILL", "w9")
    assert history.broken() == {("I13", 1)}


def test_i13_a_cancel_that_was_accepted_and_not_made() -> None:
    history = HistoryBuilder()
    history.whole(0.0, 1)
    history.step(0.5, "cancel_ok", id=1, status="cancelled")
    assert history.broken() == {("I13", 1)}


def test_i13_a_claim_after_the_cancel() -> None:
    history = HistoryBuilder()
    history.submit(0.0, 1)
    history.dispatch(0.1, 1)
    history.move(0.2, 1, "cancelled", by="taskd:intake:s1")
    history.step(0.3, "cancel_ok", id=1, status="cancelled")
    assert history.broken() == set()
    history.claim(0.4, 1)
    assert ("I13", 1) in history.broken()


def test_i13_a_cancel_that_was_refused_too_early() -> None:
    history = HistoryBuilder()
    history.whole(0.0, 1)
    history.step(0.8, "cancel_late", id=1, status="completed")
    assert history.broken() == set()
    history.step(0.9, "cancel_late", id=1, status="failed")
    assert history.broken() == {("I13", 1)}
    history = HistoryBuilder()
    history.submit(0.0, 1)
    history.step(0.8, "cancel_late", id=1, status="completed")
    assert history.broken() == {("I13", 1)}


# ---------------------------------------------------------------- I14


def quiet(redis: RedisLeft | None = None, **fields: Any) -> HistoryBuilder:
    history = HistoryBuilder()
    history.whole(0.0, 1)
    history.submit(0.1, 2, **fields)
    history.meta |= {"quiet": True, "redis": redis}
    return history


def test_i14_a_job_that_is_not_over() -> None:
    assert quiet().broken() == {("I14", 2)}


def test_i14_a_job_that_is_not_due_may_wait() -> None:
    assert quiet(due=500.0).broken() == set()


def test_i14_a_run_that_need_not_become_quiet_is_not_judged() -> None:
    history = quiet()
    history.meta["quiet"] = False
    assert history.broken() == set()


@pytest.mark.parametrize(("entries", "pending"), [(1, 0), (0, 1)])
def test_i14_entries_that_are_left_in_redis(entries: int, pending: int) -> None:
    assert quiet(RedisLeft(entries, pending), due=500.0).broken() == {("I14", None)}


def test_i14_an_empty_redis() -> None:
    assert quiet(RedisLeft(0, 0), due=500.0).broken() == set()


def test_i14_a_job_that_hangs_in_queued() -> None:
    history = quiet(due=0.2)
    history.dispatch(2.0, 2)
    history.events[-1] = msgspec.structs.replace(history.events[-1], schedule_at=START + 500)
    assert history.broken() == {("I14", 2)}
