"""The results of the checks: violations, and the number of things that were examined."""

from __future__ import annotations

from collections import Counter

import msgspec


class Violation(msgspec.Struct, frozen=True):
    """One broken invariant; `job_id` is None if it concerns no single job."""

    invariant: str
    job_id: int | None
    message: str


class Ledger:
    """The violations, and for each invariant the number of things examined: a check that examined nothing proves nothing."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self.examined: Counter[str] = Counter()

    def count(self, invariant: str, things: int = 1) -> None:
        """Count things that are examined."""
        self.examined[invariant] += things

    def report(self, invariant: str, job_id: int | None, message: str) -> None:
        """Record a violation."""
        self.violations.append(Violation(invariant, job_id, message))

    def require(self, invariant: str, job_id: int | None, held: bool, message: str) -> None:
        """Record a violation unless `held`."""
        if not held:
            self.report(invariant, job_id, message)
