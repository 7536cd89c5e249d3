"""Reaping: dead sessions are ended and their jobs freed; what ended sessions and jobs leave behind is deleted."""

from __future__ import annotations

from datetime import datetime

from taskd.domain.fencing import Term
from taskd.domain.policy import SUSPECT_AFTER
from taskd.seams import Reaped
from taskd.store.lane import Lane
from taskd.store.statements import statement
from taskd.store.terms import fence, fetch_fenced

END_EXPIRED = statement("end_expired")
FREE_JOBS = statement("free_jobs")
FORGET_SESSIONS = statement("forget_sessions")
FORGET_NOTES = statement("forget_notes")
#: The highest number of jobs that one statement frees.
BATCH = 1000


class PostgresReaping:
    """Implements `taskd.seams.Reaping`."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def end_expired(self, term: Term, before: datetime | None) -> tuple[list[str], datetime]:
        rows = await fetch_fenced(self._lane, END_EXPIRED, term, {"before": before})
        return [worker for _, _, worker in rows if worker is not None], rows[0][1]

    async def free_jobs(self, term: Term, lone_loss_limit: int) -> Reaped:
        restarted = failed = 0
        while True:
            parameters = {
                "suspect_after": SUSPECT_AFTER,
                "lone_loss_limit": lone_loss_limit,
                "limit": BATCH,
                "error": f"{lone_loss_limit} workers disappeared under this job while it ran alone: it seems to end them",
            }
            ((_, again, gone),) = await fetch_fenced(self._lane, FREE_JOBS, term, parameters)
            restarted, failed = restarted + again, failed + gone
            if again + gone < BATCH:
                return Reaped(restarted, failed)

    async def forget_sessions(self, term: Term) -> None:
        await self._lane.fetch(FORGET_SESSIONS, fence(term))

    async def forget_notes(self, term: Term) -> None:
        await self._lane.fetch(FORGET_NOTES, fence(term))
