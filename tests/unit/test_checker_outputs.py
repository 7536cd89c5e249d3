"""Tests of the invariant I19: output that is stored after an attempt's end."""

from __future__ import annotations

import pytest

from tests.unit.histories import HistoryBuilder


@pytest.fixture
def history() -> HistoryBuilder:
    """History in which job 1 runs from 0.2 on."""
    history = HistoryBuilder()
    history.submit(0.0, 1)
    history.dispatch(0.1, 1)
    history.claim(0.2, 1)
    return history


def late(history: HistoryBuilder) -> set[tuple[str, int | None]]:
    return {violation for violation in history.broken() if violation[0] == "I19"}


@pytest.mark.parametrize(("at", "broken"), [(0.3, set()), (1.0, set()), (1.2, {("I19", 1)})])
def test_i19_output_that_is_stored_after_a_retry(
    history: HistoryBuilder, at: float, broken: set[tuple[str, int]]
) -> None:
    history.settle(1.0, 1, "pending", failures=1, schedule_at=10.0)
    history.write_output(at, 1)
    assert late(history) == broken


def test_i19_another_attempt_may_go_on(history: HistoryBuilder) -> None:
    history.settle(1.0, 1, "pending", failures=1, schedule_at=4.0)
    history.dispatch(4.1, 1)
    history.claim(4.2, 1)
    history.write_output(4.3, 1, attempt=2)
    assert late(history) == set()
    history.write_output(4.4, 1, attempt=1)
    assert late(history) == {("I19", 1)}


def test_i19_the_last_output_of_a_cancelled_attempt_may_come_late(history: HistoryBuilder) -> None:
    history.move(1.0, 1, "cancelled", by="taskd:cancel:s1")
    history.write_output(2.0, 1)
    assert late(history) == set()
