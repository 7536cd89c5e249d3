"""Tests of a lease's renewals: how often they are sent, and how much time is left for repetitions."""

from __future__ import annotations

import pytest

from taskd.coordination.session import AGAIN, ATTEMPT, Rhythm


@pytest.mark.parametrize("worker", [False, True])
@pytest.mark.parametrize("ttl", [2.0, 5.0, 10.0, 60.0])
def test_a_lease_outlives_renewals_that_get_no_answer(ttl: float, worker: bool) -> None:
    rhythm = Rhythm.of(ttl, worker=worker)
    attempt = min(ATTEMPT, rhythm.ttl / 5) + AGAIN
    assert rhythm.renewal + 2 * attempt < rhythm.ttl  # a third attempt may still be in time
    assert rhythm.ttl - rhythm.renewal >= rhythm.ttl / 2
    assert rhythm.patience > rhythm.renewal + attempt  # one lost renewal is no outage


def test_a_worker_renews_less_often_than_a_scheduler_and_is_dead_when_its_session_is() -> None:
    """By the defaults: `etcd.ttl` 10 s, `worker.session_ttl` 15 s."""
    assert Rhythm.of(10.0, worker=False) == (10, 2.5)
    assert Rhythm.of(10.0, worker=True) == (15, 6.0)
