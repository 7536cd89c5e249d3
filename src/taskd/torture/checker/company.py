"""I12: jobs that lose their workers. After a few losses a job runs alone, and only losses while alone make it fail for good."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from taskd.domain.policy import LONE_LOSS_LIMIT, SUSPECT_AFTER
from taskd.torture.checker.leaders import CLAIM
from taskd.torture.checker.ledger import Ledger
from taskd.torture.history import AuditEvent, History


class AttemptRun(NamedTuple):
    """One attempt, from its claim to the event that closed it, if one did."""

    claim: AuditEvent
    end: AuditEvent | None

    @property
    def lost(self) -> bool:
        """True if the attempt ended because its worker disappeared."""
        return self.end is not None and self.end.losses > self.claim.losses

    def beside(self, other: AttemptRun) -> bool:
        """Return True if the two ran at the same time."""
        ends_later = self.end is None or self.end.at > other.claim.at
        return ends_later and (other.end is None or other.end.at > self.claim.at)


def check(history: History, ledger: Ledger) -> None:
    """Check each attempt of a job that had lost workers before, and each job that failed because of that."""
    sessions: dict[str | None, list[AttemptRun]] = defaultdict(list)
    jobs: dict[int, list[AttemptRun]] = {}
    for job_id, events in history.events_of.items():
        jobs[job_id] = _runs(events)
        for run in jobs[job_id]:
            sessions[run.claim.session_id].append(run)
    for runs in jobs.values():
        _check_runs(ledger, runs, sessions)


def _runs(events: list[AuditEvent]) -> list[AttemptRun]:
    ends = [*events[1:], None]
    return [AttemptRun(event, end) for event, end in zip(events, ends, strict=True) if event.move == CLAIM]


def _check_runs(ledger: Ledger, runs: list[AttemptRun], sessions: dict[str | None, list[AttemptRun]]) -> None:
    lone_losses = 0
    for run in runs:
        claim, end = run.claim, run.end
        if claim.losses >= SUSPECT_AFTER:
            ledger.count("I12")
            beside = [
                other.claim.job_id for other in sessions[claim.session_id] if other is not run and run.beside(other)
            ]
            message = f"attempt {claim.attempt}, after {claim.losses} losses, ran beside the jobs {beside[:5]}"
            ledger.require("I12", claim.job_id, not beside, message)
            lone_losses += run.lost and not beside
        if run.lost and end is not None and end.to_status == "failed":
            message = f"it failed for good after {lone_losses} losses alone, and {LONE_LOSS_LIMIT} are the limit"
            ledger.require("I12", claim.job_id, lone_losses >= LONE_LOSS_LIMIT, message)
