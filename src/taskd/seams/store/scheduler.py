"""The store for schedulers: leadership, and the duties of a leader.

A leader's writes carry their Term. The store refuses each of them with NotLeader once the term is over.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec

from taskd.domain.band import Credit
from taskd.domain.fencing import Dispatch, LeaderRow, Term
from taskd.domain.job import JobStatus


class Terms(Protocol):
    """Holds the leadership of each shard. PostgreSQL mints the epochs."""

    async def current(self) -> list[LeaderRow]:
        """Return the leader rows, by shard; a shard that never had a leader has no row."""
        ...

    async def take_over(
        self,
        holder: UUID,
        instance_id: str,
        etcd_revision: int | None,
        stale_after: float,
        *,
        shard: int = 0,
        shards: int = 1,
    ) -> Term | None:
        """Become leader of one of `shards` shards with its next epoch, or return None if that is not allowed.

        It is allowed when `etcd_revision` (the create_revision with which the election was won) is higher than the row's, or
        when the row was not renewed for `stale_after` seconds. The connections of a paused predecessor that still locks the
        row are ended.
        """
        ...

    async def renew(self, term: Term, dispatched: int) -> None:
        """Extend the term and add `dispatched` jobs to the leader's count. Raises NotLeader when the term is over."""
        ...

    async def resign(self, term: Term) -> None:
        """End the term, so that another scheduler can take over at once. Does nothing if the term is already over."""
        ...


class DispatchBatch(msgspec.Struct, frozen=True):
    """The dispatches of one statement, and the seconds until the next job becomes due (None: no job waits)."""

    dispatches: list[Dispatch]
    next_due: float | None


class Dispatching(Protocol):
    """Moves jobs between pending and queued, for the leader's dispatcher."""

    async def dispatch(self, term: Term, credit: Sequence[Credit], ageing: float) -> DispatchBatch:
        """pending -> queued for the best due jobs, as many as the credit of their queue and band allows. Raises NotLeader.

        Queues of other shards than the term's are left alone. The best jobs are those with the highest effective priority
        (priority plus one per `ageing` seconds of waiting), then the lowest schedule_at, then the lowest id.
        """
        ...

    async def unclaimed(self, term: Term, after: float, limit: int, skip: int = 0) -> list[Dispatch]:
        """Return the shard's jobs that were queued more than `after` seconds ago and not claimed, oldest first.

        The first `skip` of them are left out.
        """
        ...

    async def reoffer(self, term: Term, lost: Sequence[Dispatch]) -> int:
        """queued -> pending for those dispatches that are still current; return their number. Raises NotLeader."""
        ...


class Reaped(msgspec.Struct, frozen=True):
    """The numbers of jobs of dead sessions: `restarted` ones are pending again, `failed` ones had lost too many workers."""

    restarted: int
    failed: int


class Reaping(Protocol):
    """Ends dead sessions and frees their jobs, for the leader's reaper."""

    async def end_expired(self, term: Term, before: datetime | None) -> tuple[list[str], datetime]:
        """End the sessions whose lease ran out before `before`; return their workers' ids and the next call's `before`.

        The times are PostgreSQL's. None ends nothing: the first call of a term, or after a gap, only asks for the time.
        Raises NotLeader.
        """
        ...

    async def free_jobs(self, term: Term, lone_loss_limit: int) -> Reaped:
        """Free the running jobs of ended sessions. Raises NotLeader.

        A job that has lost `lone_loss_limit` workers while it ran alone fails; the others are pending again.
        """
        ...

    async def forget_sessions(self, term: Term) -> None:
        """Delete sessions that ended long ago, and add up their counters."""
        ...

    async def forget_notes(self, term: Term) -> None:
        """Delete the notes of jobs that are no longer live."""
        ...


class Pruned(msgspec.Struct, frozen=True):
    """One page of finished jobs: the number of `deleted` ones, the number of `seen` ones, and the last id."""

    deleted: int
    seen: int
    last: int


class Pruning(Protocol):
    """Deletes old finished jobs, for the leader's pruner."""

    async def prune(self, term: Term, status: JobStatus, keep: float, after: int, limit: int) -> Pruned:
        """Delete those of a page of jobs that ended as `status` more than `keep` seconds ago. Raises NotLeader.

        The page is the first `limit` of these jobs with an id higher than `after`.
        """
        ...

    async def forget_logs(self, term: Term, after: int, limit: int) -> int | None:
        """Delete the output in a page that belongs to no job any more. Raises NotLeader.

        Returns the id after which the next page begins; None if there is none.
        """
        ...


class Wakes(Protocol):
    """Reports jobs that were submitted in SQL, to the dispatcher's wake-up."""

    def wakes(self) -> AsyncIterator[None]:
        """Yield once after jobs were committed, and once after every reconnect. Never ends, never raises."""
        ...
