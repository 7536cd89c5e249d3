"""I12: jobs that lose their workers, beside others and alone."""

from __future__ import annotations

from tests.unit.histories import Story


def lose(story: Story, at: float, name: str, *jobs: int, losses: int, target: str = "pending") -> None:
    """The jobs run in a session of that name, whose worker disappears."""
    story.open(at - 10, name, name)
    for job in jobs:
        story.dispatch(at + 0.1, job)
        story.claim(at + 0.2, job, session=name, worker=name)
    story.end(at + 6.0, name, name)
    for job in jobs:
        story.move(at + 6.1, job, target, by="taskd:leader:L1", losses=losses)


def story(*jobs: int) -> Story:
    made = Story()
    for job in jobs:
        made.submit(0.0, job)
    return made


def test_losses_beside_others_and_then_alone_up_to_the_limit() -> None:
    made = story(1, 2)
    lose(made, 0.0, "a", 1, 2, losses=1)
    lose(made, 10.0, "b", 1, 2, losses=2)
    for number, name in enumerate("cd"):
        lose(made, 20.0 + 10 * number, name, 1, losses=3 + number)
    lose(made, 40.0, "e", 1, losses=5, target="failed")
    assert made.broken() == set()


def test_i12_a_job_that_lost_workers_beside_another() -> None:
    made = story(1, 2)
    lose(made, 0.0, "a", 1, losses=1)
    lose(made, 10.0, "b", 1, losses=2)
    lose(made, 20.0, "c", 1, 2, losses=3)
    assert made.broken() == {("I12", 1)}


def test_i12_a_verdict_by_losses_beside_others() -> None:
    made = story(1, 2)
    lose(made, 0.0, "a", 1, 2, losses=1)
    lose(made, 10.0, "b", 1, 2, losses=2, target="failed")
    assert made.broken() == {("I12", 1), ("I12", 2)}


def test_i12_a_verdict_before_the_limit() -> None:
    made = story(1)
    lose(made, 0.0, "a", 1, losses=1)
    lose(made, 10.0, "b", 1, losses=2)
    lose(made, 20.0, "c", 1, losses=3, target="failed")
    assert made.broken() == {("I12", 1)}


def test_one_after_the_other_in_one_session_is_not_beside() -> None:
    made = story(1, 2)
    lose(made, 0.0, "a", 1, losses=1)
    lose(made, 10.0, "b", 1, losses=2)
    made.open(15.0, "c", "c")
    for at, job in ((20.0, 1), (21.0, 2)):
        made.dispatch(at, job)
        made.claim(at + 0.1, job, session="c", worker="c")
        made.run(at + 0.2, at + 0.8, job, made.events[-1].attempt)
        made.settle(at + 0.9, job, worker="c")
    assert made.broken() == set()


def test_only_a_job_that_lost_workers_is_put_off_by_a_worker() -> None:
    made = story(1)
    lose(made, 0.0, "a", 1, losses=1)
    made.dispatch(10.0, 1)
    made.move(10.1, 1, "pending", by="taskd:claim:w1")
    assert made.broken() == {("I7", 1)}
    made = story(1)
    lose(made, 0.0, "a", 1, losses=1)
    lose(made, 10.0, "b", 1, losses=2)
    made.dispatch(20.0, 1)
    made.move(20.1, 1, "pending", by="taskd:claim:w1", schedule_at=made.events[-1].schedule_at + 25)
    assert made.broken() == set()
