"""Finished jobs that have been kept long enough, for the leader's pruner."""

from __future__ import annotations

from taskd.domain.errors import NotLeader
from taskd.domain.fencing import Term
from taskd.domain.job import JobStatus
from taskd.seams import Pruned
from taskd.store.lane import Lane
from taskd.store.statements import statement
from taskd.store.terms import fence

PRUNE = statement("prune")
FORGET_LOGS = statement("forget_logs")


class PostgresPruning:
    """Implements `taskd.seams.Pruning`."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def prune(self, term: Term, status: JobStatus, keep: float, after: int, limit: int) -> Pruned:
        """Delete the old ones of a page of jobs that ended as `status`. Raises NotLeader."""
        parameters = fence(term) | {
            "status": status.value,
            "keep": keep,
            "after": after,
            "limit": limit,
        }
        ((held, deleted, seen, last),) = await self._lane.fetch(PRUNE, parameters)
        if not held:
            raise NotLeader(f"epoch {term.epoch} is over")
        return Pruned(deleted=deleted, seen=seen, last=last if last is not None else after)

    async def forget_logs(self, term: Term, after: int, limit: int) -> int | None:
        """Delete the output in a page that no job has any more; where the next page begins, None: there is none.

        Raises NotLeader.
        """
        ((held, last),) = await self._lane.fetch(FORGET_LOGS, fence(term) | {"after": after, "limit": limit})
        if not held:
            raise NotLeader(f"epoch {term.epoch} is over")
        found: int | None = last
        return found
