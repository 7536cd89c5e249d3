"""Tests of the invariants I15 and I17: sessions that were ended too early, and workers that do not leave."""

from __future__ import annotations

import pytest

from tests.unit.histories import GRACE, LEASE, HistoryBuilder, running_on_w2


@pytest.fixture
def history() -> HistoryBuilder:
    return running_on_w2()


# ---------------------------------------------------------------- I15


def test_i15_a_session_reaped_within_its_lease(history: HistoryBuilder) -> None:
    history.end(4.9, "s2", "w2")
    history.move(5.1, 1, "pending", by="taskd:leader:L1", losses=1)
    assert history.broken() == {("I15", None), ("I5", 1)}


def test_i15_a_session_reaped_although_a_heartbeat_got_through(history: HistoryBuilder) -> None:
    history.renew(4.0, "s2", "w2")
    history.end(5.1, "s2", "w2")
    assert history.broken() == {("I15", None)}


def test_i15_a_session_reaped_after_its_lease(history: HistoryBuilder) -> None:
    history.renew(4.0, "s2", "w2")
    history.end(4.0 + LEASE + 0.001, "s2", "w2")
    assert history.broken() == set()


def test_i15_a_worker_may_end_its_own_session_at_any_time(history: HistoryBuilder) -> None:
    history.end(1.0, "s2", "w2", by="taskd:session:w2")
    assert history.broken() == set()


def test_i15_a_dead_session_that_revives(history: HistoryBuilder) -> None:
    history.end(6.0, "s2", "w2")
    history.renew(6.1, "s2", "w2")
    assert history.broken() == {("I15", None)}


@pytest.mark.parametrize(("at", "broken"), [(17.5, {("I15", None)}), (18.1, set())])
def test_i15_a_new_leader_waits_a_lease(history: HistoryBuilder, at: float, broken: set[tuple[str, None]]) -> None:
    history.takeover(3.0, 2, "L2")
    history.end(at, "s2", "w2", by="taskd:leader:L2")
    assert history.broken() == broken


@pytest.mark.parametrize(("at", "broken"), [(50.0, {("I15", None)}), (60.5, set())])
def test_i15_a_leader_waits_a_lease_after_an_outage(
    history: HistoryBuilder, at: float, broken: set[tuple[str, None]]
) -> None:
    history.fault(1.0, "SIGKILL", "postgres", pid=1)
    history.fault(46.0, "restart", "postgres", pid=2)
    history.end(at, "s2", "w2")
    assert history.broken() == broken


def test_i15_an_outage_too_short_to_be_noticed_delays_nothing(history: HistoryBuilder) -> None:
    history.fault(4.0, "SIGKILL", "postgres", pid=1)
    history.fault(5.0, "restart", "postgres", pid=2)
    history.end(5.5, "s2", "w2")
    assert history.broken() == set()


# ---------------------------------------------------------------- I17


def leaving(exit_at: float | None = 9.0) -> HistoryBuilder:
    """Return a history in which worker w2 gets SIGTERM at 2 and exits."""
    history = HistoryBuilder()
    history.open(0.0, "s2", "w2")
    history.fault(2.0, "SIGTERM", "w2", pid=9)
    if exit_at is not None:
        history.fault(exit_at, "exit", "w2", pid=9, status=0)
    history.submit(1.0, 1)
    history.dispatch(1.5, 1)
    return history


@pytest.mark.parametrize(("at", "broken"), [(1.9, set()), (2.9, set()), (3.1, {("I17", 1)})])
def test_i17_a_claim_after_sigterm(at: float, broken: set[tuple[str, int]]) -> None:
    history = leaving()
    history.claim(at, 1, session="s2", worker="w2")
    assert history.broken() == broken


def test_i17_claims_of_other_workers_and_of_a_successor_are_right() -> None:
    history = leaving(exit_at=4.0)
    history.claim(3.5, 1)
    history.open(5.0, "s3", "w2")
    history.submit(5.0, 2)
    history.dispatch(5.5, 2)
    history.claim(6.0, 2, session="s3", worker="w2")
    assert history.broken() == set()


def test_i17_a_claim_that_a_frozen_postgres_held_up() -> None:
    history = leaving()
    history.fault(1.6, "SIGSTOP", "postgres")
    history.fault(4.0, "SIGCONT", "postgres")
    history.claim(4.1, 1, session="s2", worker="w2")
    assert history.broken() == set()


@pytest.mark.parametrize(
    ("exit_at", "broken"), [(2.0 + GRACE + 4.9, set()), (2.0 + GRACE + 5.1, {("I17", None)}), (None, {("I17", None)})]
)
def test_i17_a_worker_that_does_not_leave(exit_at: float | None, broken: set[tuple[str, None]]) -> None:
    assert leaving(exit_at).broken() == broken


def test_i17_a_worker_that_was_killed_need_not_leave() -> None:
    history = leaving(exit_at=None)
    history.fault(3.0, "SIGKILL", "w2", pid=9)
    assert history.broken() == set()


def test_i17_a_scheduler_is_no_worker() -> None:
    history = HistoryBuilder()
    history.fault(2.0, "SIGTERM", "scheduler-1", pid=9)
    assert history.broken() == set()
