"""Where the checks write down what they found, and how much they looked at."""

from __future__ import annotations

from collections import Counter

import msgspec


class Violation(msgspec.Struct, frozen=True):
    """One broken promise; `job_id` is None where no single job is concerned."""

    invariant: str
    job_id: int | None
    message: str


class Ledger:
    """Violations, and for each invariant the number of things that were looked at: a check that saw nothing proves nothing."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self.looked: Counter[str] = Counter()

    def look(self, invariant: str, things: int = 1) -> None:
        """Count things that are looked at."""
        self.looked[invariant] += things

    def blame(self, invariant: str, job_id: int | None, message: str) -> None:
        """Write a violation down."""
        self.violations.append(Violation(invariant, job_id, message))

    def demand(self, invariant: str, job_id: int | None, held: bool, message: str) -> None:
        """Write a violation down unless `held`."""
        if not held:
            self.blame(invariant, job_id, message)
