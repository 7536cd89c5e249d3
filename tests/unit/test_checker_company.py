"""Tests of the invariant I12: jobs that lose their workers, beside others and alone."""

from __future__ import annotations

from tests.unit.histories import HistoryBuilder


def lose(history: HistoryBuilder, at: float, name: str, *jobs: int, losses: int, target: str = "pending") -> None:
    """Run jobs in a session of that name, whose worker then disappears."""
    history.open(at - 10, name, name)
    for job in jobs:
        history.dispatch(at + 0.1, job)
        history.claim(at + 0.2, job, session=name, worker=name)
    history.end(at + 6.0, name, name)
    for job in jobs:
        history.move(at + 6.1, job, target, by="taskd:leader:L1", losses=losses)


def submitted(*jobs: int) -> HistoryBuilder:
    history = HistoryBuilder()
    for job in jobs:
        history.submit(0.0, job)
    return history


def test_losses_beside_others_and_then_alone_up_to_the_limit() -> None:
    history = submitted(1, 2)
    lose(history, 0.0, "a", 1, 2, losses=1)
    lose(history, 10.0, "b", 1, 2, losses=2)
    for number, name in enumerate("cd"):
        lose(history, 20.0 + 10 * number, name, 1, losses=3 + number)
    lose(history, 40.0, "e", 1, losses=5, target="failed")
    assert history.broken() == set()


def test_i12_a_job_that_lost_workers_beside_another() -> None:
    history = submitted(1, 2)
    lose(history, 0.0, "a", 1, losses=1)
    lose(history, 10.0, "b", 1, losses=2)
    lose(history, 20.0, "c", 1, 2, losses=3)
    assert history.broken() == {("I12", 1)}


def test_i12_a_verdict_by_losses_beside_others() -> None:
    history = submitted(1, 2)
    lose(history, 0.0, "a", 1, 2, losses=1)
    lose(history, 10.0, "b", 1, 2, losses=2, target="failed")
    assert history.broken() == {("I12", 1), ("I12", 2)}


def test_i12_a_verdict_before_the_limit() -> None:
    history = submitted(1)
    lose(history, 0.0, "a", 1, losses=1)
    lose(history, 10.0, "b", 1, losses=2)
    lose(history, 20.0, "c", 1, losses=3, target="failed")
    assert history.broken() == {("I12", 1)}


def test_one_after_the_other_in_one_session_is_not_beside() -> None:
    history = submitted(1, 2)
    lose(history, 0.0, "a", 1, losses=1)
    lose(history, 10.0, "b", 1, losses=2)
    history.open(15.0, "c", "c")
    for at, job in ((20.0, 1), (21.0, 2)):
        history.dispatch(at, job)
        history.claim(at + 0.1, job, session="c", worker="c")
        history.run(at + 0.2, at + 0.8, job, history.events[-1].attempt)
        history.settle(at + 0.9, job, worker="c")
    assert history.broken() == set()


def test_only_a_job_that_lost_workers_is_put_off_by_a_worker() -> None:
    history = submitted(1)
    lose(history, 0.0, "a", 1, losses=1)
    history.dispatch(10.0, 1)
    history.move(10.1, 1, "pending", by="taskd:claim:w1")
    assert history.broken() == {("I7", 1)}
    history = submitted(1)
    lose(history, 0.0, "a", 1, losses=1)
    lose(history, 10.0, "b", 1, losses=2)
    history.dispatch(20.0, 1)
    history.move(20.1, 1, "pending", by="taskd:claim:w1", schedule_at=history.events[-1].schedule_at + 25)
    assert history.broken() == set()
