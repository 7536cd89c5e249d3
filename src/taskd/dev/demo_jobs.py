"""The jobs of `make demo`: what is submitted, what is expected of each, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

FINAL = frozenset({"completed", "failed", "cancelled"})
URGENT, ORDINARY, LOW = 90, 50, 1


class ExpectedJob(msgspec.Struct, frozen=True, kw_only=True):
    """One job to submit and how it should end."""

    what: str
    fields: dict[str, Any]
    status: str = "completed"
    attempts: int = 1


def fillers(slots: int) -> list[ExpectedJob]:
    """Keep every slot busy for a second, so that the others queue up."""
    fields = {"task": "resize", "payload": {"picture": "poster.png", "seconds": 1.0}, "priority": ORDINARY}
    return [ExpectedJob(what="fills a slot", fields=fields)] * slots


def crowd() -> list[ExpectedJob]:
    """Submitted together while all slots are busy: the low ones first, the urgent ones last."""
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
    """A submitted job and the latest that the API said about it."""

    def __init__(self, wanted: ExpectedJob, job_id: int) -> None:
        self.wanted = wanted
        self.job: dict[str, Any] = {"id": job_id, "status": "pending", **wanted.fields}

    @property
    def status(self) -> str:
        """As the API names it."""
        return str(self.job["status"])

    @property
    def is_final(self) -> bool:
        """Nothing will change any more."""
        return self.status in FINAL

    @property
    def outcome(self) -> str:
        """Its result or its last error, short; empty if there is none."""
        said = self.job.get("error") or self.job.get("result") or ""
        text = said if isinstance(said, str) else msgspec.json.encode(said).decode()
        return text.strip().splitlines()[-1][:44] if text.strip() else ""

    def trouble(self) -> str | None:
        """How it differs from what was expected; None if it ended as it should."""
        attempts = self.job.get("attempt", 0)
        if self.status != self.wanted.status:
            return f"job {self.job['id']} ({self.wanted.what}) is {self.status}, not {self.wanted.status}"
        if attempts < self.wanted.attempts:
            return f"job {self.job['id']} ({self.wanted.what}) took {attempts} attempts, not {self.wanted.attempts}"
        return None


def urgent_went_first(jobs: Sequence[Watched]) -> bool:
    """Whether every urgent job started before (or with) the first of low priority."""
    starts = {
        priority: [when(w.job["started_at"]) for w in jobs if w.job["priority"] == priority and "started_at" in w.job]
        for priority in (URGENT, LOW)
    }
    return bool(starts[URGENT] and starts[LOW]) and max(starts[URGENT]) <= min(starts[LOW])


def when(text: str) -> datetime:
    """An API time."""
    return datetime.fromisoformat(text)
