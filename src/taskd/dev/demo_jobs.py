"""The jobs of `make demo`: their fields, their expected results, and their real ones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

FINAL = frozenset({"completed", "failed", "cancelled"})
URGENT, ORDINARY, LOW = 90, 50, 1


class ExpectedJob(msgspec.Struct, frozen=True, kw_only=True):
    """One job to submit and its expected end."""

    what: str
    fields: dict[str, Any]
    status: str = "completed"
    attempts: int = 1


def fillers(slots: int) -> list[ExpectedJob]:
    """Return jobs that keep every slot busy for a second, so that the others queue up."""
    fields = {"task": "resize", "payload": {"picture": "poster.png", "seconds": 1.0}, "priority": ORDINARY}
    return [ExpectedJob(what="fills a slot", fields=fields)] * slots


def crowd() -> list[ExpectedJob]:
    """Return the jobs to submit while all slots are busy: the low ones first, the urgent ones last."""
    low = {"task": "resize", "payload": {"picture": "cat.png", "seconds": 0.4}, "priority": LOW}
    urgent = {"task": "resize", "payload": {"picture": "logo.png", "seconds": 0.4}, "priority": URGENT}
    backoff = {"initial": 0.5, "jitter": False}
    return [
        *[ExpectedJob(what="low priority", fields=low)] * 4,
        *[ExpectedJob(what="urgent, submitted later", fields=urgent)] * 4,
        ExpectedJob(
            what="a plain function", fields={"task": "checksum", "payload": {"text": "taskd", "rounds": 200_000}}
        ),
        ExpectedJob(
            what="fails once, is retried",
            fields={"task": "unsteady", "payload": {}, "priority": ORDINARY, "retry_backoff": backoff},
            attempts=2,
        ),
        ExpectedJob(
            what="fails for good",
            fields={"task": "hopeless", "payload": {"order": 17}, "priority": ORDINARY},
            status="failed",
        ),
        ExpectedJob(what="two seconds from now", fields={"task": "echo", "payload": {"hello": "later"}, "delay": 2}),
    ]


class Watched:
    """A submitted job and the API's latest response about it."""

    def __init__(self, expected: ExpectedJob, job_id: int) -> None:
        self.expected = expected
        self.job: dict[str, Any] = {"id": job_id, "status": "pending", **expected.fields}

    @property
    def status(self) -> str:
        """The status by its name in the API."""
        return str(self.job["status"])

    @property
    def is_final(self) -> bool:
        """True once the job cannot change any more."""
        return self.status in FINAL

    @property
    def outcome(self) -> str:
        """The job's result or last error, shortened; empty if there is none."""
        value = self.job.get("error") or self.job.get("result") or ""
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        return text.strip().splitlines()[-1][:44] if text.strip() else ""

    def problem(self) -> str | None:
        """Return the difference from the expected end; None if there is none."""
        attempts, expected = self.job.get("attempt", 0), self.expected
        if self.status != expected.status:
            return f"job {self.job['id']} ({expected.what}) is {self.status}, not {expected.status}"
        if attempts < expected.attempts:
            return f"job {self.job['id']} ({expected.what}) took {attempts} attempts, not {expected.attempts}"
        return None


def urgent_went_first(jobs: Sequence[Watched]) -> bool:
    """Return True if every urgent job started before (or with) the first one of low priority."""
    starts = {
        priority: [when(w.job["started_at"]) for w in jobs if w.job["priority"] == priority and "started_at" in w.job]
        for priority in (URGENT, LOW)
    }
    return bool(starts[URGENT] and starts[LOW]) and max(starts[URGENT]) <= min(starts[LOW])


def when(text: str) -> datetime:
    """Parse a time of the API."""
    return datetime.fromisoformat(text)
