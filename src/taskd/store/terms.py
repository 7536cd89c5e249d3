"""Who leads each shard, as PostgreSQL sees it.

It mints the epochs, so etcd may lose its memory without two leaders of one shard ever writing.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from taskd.domain.errors import NotLeader, StoreUnavailable
from taskd.domain.fencing import LeaderRow, Term
from taskd.store.lane import Lane
from taskd.store.statements import statement

CURRENT = statement("current_terms")
TAKE_OVER = statement("take_over")
EVICT = statement("evict")
RENEW = statement("renew_term")
RESIGN = statement("resign_term")

#: The lane of a Terms must have these: a predecessor's lock is waited for this long before its connections are ended.
LOCK_PATIENCE = {"lock_timeout": "500ms"}


def leader_name(holder: object) -> str:
    """The application_name of everything that writes as leader: evict.sql finds a paused predecessor by it."""
    return f"taskd:leader:{holder}"


def fence(term: Term) -> dict[str, Any]:
    """The parameters by which a leader's statement demands that its term still holds."""
    return {"shard": term.shard, "epoch": term.epoch, "holder": term.holder}


class PostgresTerms:
    """Implements `taskd.seams.Terms`."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def current(self) -> list[LeaderRow]:
        """The leader rows, by shard; a shard that was never led has none."""
        return [
            LeaderRow(
                shard=shard,
                epoch=epoch,
                holder=holder,
                instance_id=instance_id,
                etcd_revision=revision,
                age=age,
                dispatched=dispatched,
                last_dispatch=last_dispatch,
            )
            for shard, epoch, holder, instance_id, revision, age, dispatched, last_dispatch in await self._lane.fetch(
                CURRENT
            )
        ]

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
        """Become a shard's leader with its next epoch, or None if that is not allowed (see `taskd.seams.Terms`)."""
        parameters = {
            "shard": shard,
            "shards": shards,
            "holder": holder,
            "instance_id": instance_id,
            "revision": etcd_revision,
            "stale_after": stale_after,
        }
        try:
            rows = await self._lane.fetch(TAKE_OVER, parameters)
        except StoreUnavailable:
            # Most likely a paused leader's lock: end its connections, then one more try decides.
            await self._lane.fetch(EVICT, {"shard": shard})
            rows = await self._lane.fetch(TAKE_OVER, parameters)
        return Term(rows[0][0], holder, shard, shards) if rows else None

    async def renew(self, term: Term, dispatched: int) -> None:
        """Extend the term and add `dispatched` jobs to the leader's count. Raises NotLeader when the term is over."""
        if not await self._lane.fetch(RENEW, fence(term) | {"dispatched": dispatched}):
            raise NotLeader(f"epoch {term.epoch} is over")

    async def resign(self, term: Term) -> None:
        """Let anybody take over at once. Does nothing if the term is already over."""
        await self._lane.fetch(RESIGN, fence(term))
