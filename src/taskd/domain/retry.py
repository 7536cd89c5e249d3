"""The verdict on an attempt: (outcome, policy, record) -> final, or pending again after a delay."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum

import msgspec

from taskd.domain.outcome import Completed, Crashed, Failed, Outcome, Released, Snoozed, TimedOut
from taskd.domain.policy import Policy, Record

#: A job that crashed its executor this often is poisonous, and fails.
CRASH_LIMIT = 3


class Counter(StrEnum):
    """The counter of the Record that an outcome raises; NONE costs nothing."""

    NONE = "none"
    FAILURES = "failures"
    CRASHES = "crashes"


class Final(msgspec.Struct, frozen=True):
    """The job is over: completed, or failed if not `completed`."""

    completed: bool
    counter: Counter


class Again(msgspec.Struct, frozen=True):
    """The job is pending again, after `delay` seconds or at `at`."""

    counter: Counter
    delay: float = 0.0
    at: datetime | None = None


Verdict = Final | Again


def decide(outcome: Outcome, policy: Policy, record: Record, draw: Callable[[], float] = random.random) -> Verdict:
    """Return the verdict on `outcome` for a job with this `policy` and this `record` of earlier attempts."""
    match outcome:
        case Completed():
            return Final(completed=True, counter=Counter.NONE)
        case Released():
            return Again(Counter.NONE)
        case Snoozed(delay=delay):
            return Again(Counter.NONE, delay=delay)
        case Crashed():
            return _after_crash(policy, record, draw)
        case Failed() | TimedOut():
            return _after_failure(outcome, policy, record, draw)


def with_crash_count(outcome: Outcome, record: Record) -> Outcome:
    """Return a crash with the job's number of crashes and their limit in its text; any other outcome as it is."""
    if not isinstance(outcome, Crashed):
        return outcome
    crashes = record.crashes + 1
    if crashes < CRASH_LIMIT:
        return Crashed(f"{outcome.error} (crash {crashes} of at most {CRASH_LIMIT})")
    return Crashed(f"crashed {crashes} times, the limit is {CRASH_LIMIT}. The last time {outcome.error}")


def _after_crash(policy: Policy, record: Record, draw: Callable[[], float]) -> Verdict:
    crashes = record.crashes + 1
    if crashes >= CRASH_LIMIT:
        return Final(completed=False, counter=Counter.CRASHES)
    return Again(Counter.CRASHES, delay=policy.backoff.delay(crashes, draw))


def _after_failure(outcome: Failed | TimedOut, policy: Policy, record: Record, draw: Callable[[], float]) -> Verdict:
    failures = record.failures + 1
    permanent = isinstance(outcome, Failed) and outcome.permanent
    if permanent or failures > policy.max_retries:
        return Final(completed=False, counter=Counter.FAILURES)
    if isinstance(outcome, Failed) and outcome.again_at is not None:
        return Again(Counter.FAILURES, at=outcome.again_at)
    return Again(Counter.FAILURES, delay=policy.backoff.delay(failures, draw))
