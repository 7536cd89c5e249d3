"""I15, I17: sessions that were ended too early, and workers that do not leave."""

from __future__ import annotations

import pytest

from tests.unit.histories import GRACE, LEASE, Story


@pytest.fixture
def story() -> Story:
    """Job 1 runs on worker w2, whose lease ends at 5."""
    made = Story()
    made.open(-10.0, "s2", "w2")
    made.submit(0.0, 1)
    made.dispatch(0.1, 1)
    made.claim(0.2, 1, session="s2", worker="w2")
    return made


# ---------------------------------------------------------------- I15


def test_i15_a_session_reaped_within_its_lease(story: Story) -> None:
    story.end(4.9, "s2", "w2")
    story.move(5.1, 1, "pending", by="taskd:leader:L1", losses=1)
    assert story.broken() == {("I15", None), ("I5", 1)}


def test_i15_a_session_reaped_although_a_heartbeat_got_through(story: Story) -> None:
    story.renew(4.0, "s2", "w2")
    story.end(5.1, "s2", "w2")
    assert story.broken() == {("I15", None)}


def test_i15_a_session_reaped_after_its_lease(story: Story) -> None:
    story.renew(4.0, "s2", "w2")
    story.end(4.0 + LEASE + 0.001, "s2", "w2")
    assert story.broken() == set()


def test_i15_a_worker_may_end_its_own_session_at_any_time(story: Story) -> None:
    story.end(1.0, "s2", "w2", by="taskd:session:w2")
    assert story.broken() == set()


def test_i15_a_dead_session_that_revives(story: Story) -> None:
    story.end(6.0, "s2", "w2")
    story.renew(6.1, "s2", "w2")
    assert story.broken() == {("I15", None)}


@pytest.mark.parametrize(("at", "broken"), [(17.5, {("I15", None)}), (18.1, set())])
def test_i15_a_new_leader_waits_a_lease(story: Story, at: float, broken: set[tuple[str, None]]) -> None:
    story.takeover(3.0, 2, "L2")
    story.end(at, "s2", "w2", by="taskd:leader:L2")
    assert story.broken() == broken


@pytest.mark.parametrize(("at", "broken"), [(50.0, {("I15", None)}), (60.5, set())])
def test_i15_a_leader_waits_a_lease_after_an_outage(story: Story, at: float, broken: set[tuple[str, None]]) -> None:
    story.fault(1.0, "SIGKILL", "postgres", pid=1)
    story.fault(46.0, "restart", "postgres", pid=2)
    story.end(at, "s2", "w2")
    assert story.broken() == broken


def test_i15_an_outage_too_short_to_be_noticed_delays_nothing(story: Story) -> None:
    story.fault(4.0, "SIGKILL", "postgres", pid=1)
    story.fault(5.0, "restart", "postgres", pid=2)
    story.end(5.5, "s2", "w2")
    assert story.broken() == set()


# ---------------------------------------------------------------- I17


def leaving(exit_at: float | None = 9.0) -> Story:
    """Worker w2 gets SIGTERM at 2 and exits."""
    story = Story()
    story.open(0.0, "s2", "w2")
    story.fault(2.0, "SIGTERM", "w2", pid=9)
    if exit_at is not None:
        story.fault(exit_at, "exit", "w2", pid=9, status=0)
    story.submit(1.0, 1)
    story.dispatch(1.5, 1)
    return story


@pytest.mark.parametrize(("at", "broken"), [(1.9, set()), (2.9, set()), (3.1, {("I17", 1)})])
def test_i17_a_claim_after_sigterm(at: float, broken: set[tuple[str, int]]) -> None:
    story = leaving()
    story.claim(at, 1, session="s2", worker="w2")
    assert story.broken() == broken


def test_i17_claims_of_others_and_of_a_successor_are_theirs() -> None:
    story = leaving(exit_at=4.0)
    story.claim(3.5, 1)
    story.open(5.0, "s3", "w2")
    story.submit(5.0, 2)
    story.dispatch(5.5, 2)
    story.claim(6.0, 2, session="s3", worker="w2")
    assert story.broken() == set()


def test_i17_a_claim_that_a_frozen_postgres_held_up() -> None:
    story = leaving()
    story.fault(1.6, "SIGSTOP", "postgres")
    story.fault(4.0, "SIGCONT", "postgres")
    story.claim(4.1, 1, session="s2", worker="w2")
    assert story.broken() == set()


@pytest.mark.parametrize(
    ("exit_at", "broken"), [(2.0 + GRACE + 4.9, set()), (2.0 + GRACE + 5.1, {("I17", None)}), (None, {("I17", None)})]
)
def test_i17_a_worker_that_does_not_leave(exit_at: float | None, broken: set[tuple[str, None]]) -> None:
    assert leaving(exit_at).broken() == broken


def test_i17_a_worker_that_was_killed_need_not_leave() -> None:
    story = leaving(exit_at=None)
    story.fault(3.0, "SIGKILL", "w2", pid=9)
    assert story.broken() == set()


def test_i17_a_scheduler_is_no_worker() -> None:
    story = Story()
    story.fault(2.0, "SIGTERM", "scheduler-1", pid=9)
    assert story.broken() == set()
