"""Tests of the decision that follows an attempt."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskd.domain.outcome import Completed, Crashed, Failed, Outcome, Released, TimedOut
from taskd.domain.policy import Backoff, Policy, Record
from taskd.domain.retry import CRASH_LIMIT, Again, Counter, Final, decide

POLICY = Policy(max_retries=2, backoff=Backoff(jitter=False))


def test_a_completed_attempt_ends_the_job() -> None:
    outcome = Completed(msgspec.Raw(b"1"))
    assert decide(outcome, POLICY, Record()) == Final(completed=True, counter=Counter.NONE)


@pytest.mark.parametrize("outcome", [Failed("boom"), TimedOut(3.0)])
def test_failures_are_retried_until_the_retries_are_used_up(outcome: Outcome) -> None:
    assert decide(outcome, POLICY, Record(failures=0)) == Again(Counter.FAILURES, delay=1.0)
    assert decide(outcome, POLICY, Record(failures=1)) == Again(Counter.FAILURES, delay=2.0)
    assert decide(outcome, POLICY, Record(failures=2)) == Final(completed=False, counter=Counter.FAILURES)


def test_a_permanent_failure_ends_the_job_whatever_retries_are_left() -> None:
    assert decide(Failed("no", permanent=True), POLICY, Record()) == Final(completed=False, counter=Counter.FAILURES)


def test_a_task_may_say_when_to_retry_but_not_how_often() -> None:
    when = datetime(2030, 1, 1, tzinfo=UTC)
    assert decide(Failed("later", again_at=when), POLICY, Record()) == Again(Counter.FAILURES, at=when)
    assert isinstance(decide(Failed("later", again_at=when), POLICY, Record(failures=2)), Final)


def test_a_release_costs_nothing_however_often() -> None:
    assert decide(Released("shutdown"), POLICY, Record(failures=2, crashes=2, losses=9)) == Again(Counter.NONE)


def test_crashes_have_a_limit_of_their_own() -> None:
    patient = Policy(max_retries=100)
    for crashes in range(CRASH_LIMIT - 1):
        assert isinstance(decide(Crashed("segfault"), patient, Record(crashes=crashes)), Again)
    last = decide(Crashed("segfault"), patient, Record(crashes=CRASH_LIMIT - 1))
    assert last == Final(completed=False, counter=Counter.CRASHES)


@given(
    failures=st.integers(1, 2000),
    initial=st.floats(0.001, 100),
    factor=st.floats(1, 10),
    longest=st.floats(0.001, 1e6),
    jitter=st.booleans(),
    drawn=st.floats(0, 0.999),
)
def test_a_backoff_stays_within_its_half_and_its_maximum(
    failures: int, initial: float, factor: float, longest: float, jitter: bool, drawn: float
) -> None:
    backoff = Backoff(initial, factor, longest, jitter)
    whole = backoff.delay(failures, lambda: 1.0)
    assert whole / 2 <= backoff.delay(failures, lambda: drawn) <= whole <= longest


def test_jitter_spreads_jobs_that_failed_together() -> None:
    backoff = Backoff(initial=8, jitter=True)
    draws = iter((0.0, 0.5, 0.75))
    assert [backoff.delay(1, lambda: next(draws)) for _ in range(3)] == [4.0, 6.0, 7.0]
