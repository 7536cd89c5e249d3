"""The leadership of each shard: rows of `taskd.leader`, one a shard.

PostgreSQL mints the epochs, so etcd may lose all its data and still no two leaders of one shard ever write.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from taskd.domain.errors import NotLeader, StoreUnavailable
from taskd.domain.fencing import LeaderRow, Term
from taskd.store.lane import Lane, Row
from taskd.store.statements import statement

CURRENT = statement("current_terms")
TAKE_OVER = statement("take_over")
EVICT = statement("evict")
RENEW = statement("renew_term")
RESIGN = statement("resign_term")

#: Options that the lane of a Terms must have: it waits this long for a predecessor's lock, and then ends its connections.
LOCK_PATIENCE = {"lock_timeout": "500ms"}


def leader_name(holder: object) -> str:
    """Return the application_name of every connection that writes as leader: evict.sql finds a paused predecessor by it."""
    return f"taskd:leader:{holder}"


def fence(term: Term) -> dict[str, Any]:
    """Return the parameters by which a leader's statement demands that its term still holds."""
    return {"shard": term.shard, "epoch": term.epoch, "holder": term.holder}


async def fetch_fenced(lane: Lane, statement: str, term: Term, parameters: Mapping[str, Any]) -> list[Row]:
    """Run a leader's statement whose first column is 0 if the term is over. Raises NotLeader then."""
    rows = await lane.fetch(statement, {**fence(term), **parameters})
    if not rows[0][0]:
        raise _over(term)
    return rows


def _over(term: Term) -> NotLeader:
    return NotLeader(f"epoch {term.epoch} is over")


class PostgresTerms:
    """Implements `taskd.seams.Terms`."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def current(self) -> list[LeaderRow]:
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
            # Most likely a paused leader holds the lock: end its connections, and try once more.
            await self._lane.fetch(EVICT, {"shard": shard})
            rows = await self._lane.fetch(TAKE_OVER, parameters)
        return Term(rows[0][0], holder, shard, shards) if rows else None

    async def renew(self, term: Term, dispatched: int) -> None:
        if not await self._lane.fetch(RENEW, fence(term) | {"dispatched": dispatched}):
            raise _over(term)

    async def resign(self, term: Term) -> None:
        await self._lane.fetch(RESIGN, fence(term))
