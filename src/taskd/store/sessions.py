"""Sessions of workers: one row and one heartbeat per worker, never per job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from taskd.domain.errors import SessionLost
from taskd.domain.fencing import Host, Session
from taskd.domain.job import AttemptId
from taskd.seams import LostClaim
from taskd.store.lane import Lane, int_array
from taskd.store.statements import statement

OPEN = statement("open_session")
HOLDER = statement("session_holder")
HEARTBEAT = statement("heartbeat")
IDLE = statement("heartbeat_idle")
END = statement("end_session")


class PostgresSessions:
    """Implements `taskd.seams.Sessions`."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def open(self, session: Session, ttl: float) -> bool:
        parameters = {
            "id": session.id,
            "worker_id": session.worker_id,
            "host": msgspec.json.encode(session.host).decode(),
            "queues": list(session.queues),
            "slots": session.slots,
            "ttl": ttl,
        }
        return bool(await self._lane.fetch(OPEN, parameters))

    async def holder(self, worker_id: str) -> tuple[Session, float] | None:
        rows = await self._lane.fetch(HOLDER, {"worker_id": worker_id})
        return (session_from(rows[0][:5]), rows[0][5]) if rows else None

    async def heartbeat(
        self, session: Session, ttl: float, claims: Sequence[AttemptId], slots: int | None = None
    ) -> set[LostClaim]:
        parameters: dict[str, Any] = {"session": session.id, "ttl": ttl, "slots": slots}
        if claims:
            parameters["ids"] = int_array(job_id for job_id, _ in claims)
            parameters["attempts"] = int_array(attempt for _, attempt in claims)
        rows = await self._lane.fetch(HEARTBEAT if claims else IDLE, parameters)
        if not rows or not rows[0][0]:
            raise SessionLost(f"the session of worker {session.worker_id} is over")
        return {LostClaim(*row[1:]) for row in rows if row[1] is not None}

    async def end(self, session_id: UUID) -> bool:
        return bool(await self._lane.fetch(END, {"session": session_id}))


def session_from(row: tuple[Any, ...]) -> Session:
    """Return the Session of a row with the columns id, worker_id, host, queues, slots."""
    session_id, worker_id, host, queues, slots = row
    return Session(
        id=session_id,
        worker_id=worker_id,
        host=msgspec.json.decode(host, type=Host),
        queues=tuple(queues),
        slots=slots,
    )
