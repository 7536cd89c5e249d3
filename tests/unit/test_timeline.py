"""Tests of the timeline: the stages of a job and their lengths."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from taskd.domain.job import Attempt, Job, JobStatus
from taskd.domain.timeline import DELIVERY, TURN, timeline
from tests.unit.api_world import a_job

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def stages_of(job: Job, now: float) -> list[tuple[str, float, str, bool]]:
    """Return state, seconds and reason of each stage, with True if it is over."""
    return [(stage.state, stage.seconds, stage.why, stage.until is not None) for stage in timeline(job, at(now))]


def test_a_job_waits_until_it_is_due_then_for_its_turn_then_for_a_worker() -> None:
    job = a_job(created_at=at(0), schedule_at=at(10))
    assert stages_of(job, 4) == [("pending", 4, "until it is due", False)]
    assert stages_of(job, 12) == [("pending", 10, "until it is due", True), ("pending", 2, TURN, False)]
    queued = a_job(status=JobStatus.QUEUED, created_at=at(0), schedule_at=at(10), queued_at=at(11))
    assert stages_of(queued, 12)[1:] == [("pending", 1, TURN, True), ("queued", 1, DELIVERY, False)]


def test_between_attempts_a_job_waits_for_its_retry() -> None:
    first = Attempt(1, "w", at(1), at(3), "failed", schedule_at=at(0), queued_at=at(0.5))
    again = a_job(created_at=at(0), schedule_at=at(8), attempt=1, attempts=[first])
    assert stages_of(again, 5) == [
        ("pending", 0.5, TURN, True),
        ("queued", 0.5, DELIVERY, True),
        ("running", 2, "failed", True),
        ("pending", 2, "until its retry", False),
    ]
    second = Attempt(2, "w", at(9), schedule_at=at(8), queued_at=at(8.5))
    running = a_job(status=JobStatus.RUNNING, created_at=at(0), schedule_at=at(8), attempt=2, attempts=[first, second])
    assert stages_of(running, 10)[3:] == [
        ("pending", 5, "until its retry", True),
        ("pending", 0.5, TURN, True),
        ("queued", 0.5, DELIVERY, True),
        ("running", 1, "runs", False),
    ]
    assert [stage.attempt for stage in timeline(running, at(10))][2::4] == [1, 2]


def test_a_released_attempt_keeps_its_due_time_and_stages_never_overlap() -> None:
    first = Attempt(1, "w", at(1), at(3), "released", schedule_at=at(0), queued_at=at(0.5))
    second = Attempt(2, "w", at(4), at(5), "completed", schedule_at=at(0), queued_at=at(3.5))
    job = a_job(status=JobStatus.COMPLETED, created_at=at(0), schedule_at=at(0), attempts=[first, second])
    stages = timeline(job, at(100))
    assert [stage.since for stage in stages[1:]] == [stage.until for stage in stages[:-1]]
    assert sum(stage.seconds for stage in stages) == 5


def test_a_job_that_was_cancelled_while_it_waited_ends_there() -> None:
    job = a_job(status=JobStatus.CANCELLED, created_at=at(0), schedule_at=at(10), completed_at=at(4))
    assert stages_of(job, 100) == [("pending", 4, "until it is due", True)]


def test_attempts_without_due_times_have_one_stage_before_them() -> None:
    old = Attempt(1, "w", at(1), at(3), "completed")
    job = a_job(status=JobStatus.COMPLETED, created_at=at(0), attempts=[old])
    assert stages_of(job, 100) == [("pending", 1, TURN, True), ("running", 2, "completed", True)]


def test_a_clock_that_is_behind_makes_no_negative_time() -> None:
    job = a_job(created_at=at(0), schedule_at=at(0))
    assert all(stage.seconds >= 0 for stage in timeline(job, at(-5)))
