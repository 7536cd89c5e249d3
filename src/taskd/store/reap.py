"""Completion dead sessions and freeing their jobs, for the leader's reaper."""

from __future__ import annotations

from datetime import datetime

from taskd.domain.errors import NotLeader
from taskd.domain.fencing import Term
from taskd.domain.policy import SUSPECT_AFTER
from taskd.seams import Reaped
from taskd.store.lane import Lane
from taskd.store.statements import statement
from taskd.store.terms import fence

END_EXPIRED = statement("end_expired")
FREE_JOBS = statement("free_jobs")
FORGET_SESSIONS = statement("forget_sessions")
FORGET_NOTES = statement("forget_notes")
BATCH = 1000


class PostgresReaping:
    """Implements `taskd.seams.Reaping`."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def end_expired(self, term: Term, before: datetime | None) -> tuple[list[str], datetime]:
        """End the sessions whose lease ran out `before` then; their workers' ids, and the `before` for the next call.

        Raises NotLeader.
        """
        rows = await self._lane.fetch(END_EXPIRED, fence(term) | {"before": before})
        if not rows[0][0]:
            raise NotLeader(f"epoch {term.epoch} is over")
        return [worker for _, _, worker in rows if worker is not None], rows[0][1]

    async def free_jobs(self, term: Term, lone_loss_limit: int) -> Reaped:
        """Free the running jobs of ended sessions. Raises NotLeader."""
        restarted = failed = 0
        while True:
            parameters = fence(term) | {
                "suspect_after": SUSPECT_AFTER,
                "lone_loss_limit": lone_loss_limit,
                "limit": BATCH,
                "error": f"{lone_loss_limit} workers disappeared under this job while it ran alone: it seems to end them",
            }
            ((held, again, gone),) = await self._lane.fetch(FREE_JOBS, parameters)
            if not held:
                raise NotLeader(f"epoch {term.epoch} is over")
            restarted, failed = restarted + again, failed + gone
            if again + gone < BATCH:
                return Reaped(restarted, failed)

    async def forget_sessions(self, term: Term) -> None:
        """Delete what is left of sessions that ended long ago."""
        await self._lane.fetch(FORGET_SESSIONS, fence(term))

    async def forget_notes(self, term: Term) -> None:
        """Delete the notes of jobs that are no longer live."""
        await self._lane.fetch(FORGET_NOTES, fence(term))
