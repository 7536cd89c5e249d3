"""Test the log lines of attempts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import structlog

from taskd.domain.outcome import Failed, Outcome, TimedOut
from taskd.domain.retry import Counter, Final
from taskd.seams import Settlement
from taskd.worker.reporting import AttemptReporter
from tests.unit.claims import claim

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def line(outcome: Outcome) -> dict[str, Any]:
    """Return the fields of the one line that reports an attempt with this outcome."""
    settlement = Settlement(claim(1), outcome, Final(completed=False, counter=Counter.FAILURES))
    with structlog.testing.capture_logs() as lines:
        AttemptReporter(lambda: ["t"]).ended(settlement, 1.0, structlog.get_logger(), settled=True, unknown=False)
    (fields,) = lines
    return dict(fields)


def test_a_timed_out_attempt_is_reported_without_an_error() -> None:
    fields = line(TimedOut(1.0))
    assert (fields["event"], fields["outcome"]) == ("attempt ended", "timed_out")
    assert "error" not in fields


def test_a_failure_is_reported_with_its_error() -> None:
    assert line(Failed("ValueError: no"))["error"] == "ValueError: no"
