"""What there is to see of the cluster: health, counters, who leads, who is there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from taskd.api.answers import Answer, document
from taskd.api.call import Call
from taskd.api.reading import Recent
from taskd.domain.claim import Leadership, Session
from taskd.domain.errors import StoreUnavailable
from taskd.domain.job import QueueDepth
from taskd.seams import Coordinator, Member, Overview, Standing, Terms

ETCD_AWAY = "etcd is away"


class Cluster:
    """Shows the cluster as this scheduler sees it."""

    def __init__(
        self, overview: Overview, terms: Terms, coordinator: Coordinator, standing: Standing, leader_stale: float
    ) -> None:
        self._coordinator = coordinator
        self._standing = standing
        self._leader_stale = leader_stale
        self._counts = Recent(overview.counts)
        self._depths = Recent(overview.depths)
        self._sessions = Recent(overview.sessions)
        self._leadership = Recent(terms.current, age=0.5)

    async def health(self, _: Call) -> Answer:
        """GET /health: 503 only when this scheduler cannot do its work, which is to store jobs. No round trip."""
        components = self._standing.components()
        able = components["postgres"].ok
        well = all(c.ok for c in components.values())
        answer = {
            "status": "unhealthy" if not able else "healthy" if well else "degraded",
            "instance_id": self._standing.instance_id,
            "is_leader": self._standing.term is not None,
            "coordinator_health": "healthy" if components["etcd"].ok else "unhealthy",
            "timestamp": int(time.time()),
            "components": components,
        }
        return document(answer, 200 if able else 503)

    async def metrics(self, _: Call) -> Answer:
        """GET /metrics as JSON; times are Unix seconds."""
        counts = await self._counts.get()
        return document(
            {
                "timestamp": int(time.time()),
                "instance_id": self._standing.instance_id,
                "is_leader": self._standing.term is not None,
                "pending_jobs": counts.pending,
                "queued_jobs": counts.queued,
                "running_jobs": counts.running,
                "completed_jobs": counts.completed,
                "failed_jobs": counts.failed,
                "cancelled_jobs": counts.cancelled,
                "jobs_dispatched": counts.dispatched,
                "last_dispatch": int(counts.last_dispatch.timestamp()) if counts.last_dispatch else None,
                "event_loop_tasks": len(asyncio.all_tasks()),
            }
        )

    async def leader(self, call: Call) -> Answer:
        """GET /leader: who may dispatch, by PostgreSQL; by etcd while PostgreSQL is away."""
        call.query()
        answer: dict[str, Any] = {
            "current_leader": None,
            "is_leader": self._standing.term is not None,
            "instance_id": self._standing.instance_id,
        }
        if (term := self._standing.term) is not None:
            return document({**answer, "current_leader": self._standing.instance_id, "epoch": term.epoch})
        try:
            row = await self._leadership.get()
        except StoreUnavailable:
            seen = self._coordinator.leader
            return document({**answer, "current_leader": seen.instance_id if seen else None})
        return document({**answer, "current_leader": self._holder(row), "epoch": row.epoch})

    def _holder(self, row: Leadership) -> str | None:
        return row.instance_id if row.holder is not None and row.age < self._leader_stale else None

    async def workers(self, call: Call) -> Answer:
        """GET /workers: from etcd with rates and tasks; from PostgreSQL's sessions while etcd is away."""
        call.query()
        if self._coordinator.health.ok:
            return document({"source": "etcd", "workers": self._members("worker")})
        sessions = [_session(s) for s in await self._sessions.get()]
        note = f"{ETCD_AWAY}: these are the sessions in PostgreSQL, without addresses and rates"
        return document({"source": "postgres", "note": note, "workers": sessions})

    async def schedulers(self, call: Call) -> Answer:
        """GET /schedulers."""
        call.query()
        answer: dict[str, Any] = {"source": "etcd", "schedulers": self._members("scheduler")}
        if not self._coordinator.health.ok:
            answer["note"] = f"{ETCD_AWAY}: these are the schedulers that were there when it was last seen"
        return document(answer)

    async def queues(self, call: Call) -> Answer:
        """GET /queues: live jobs, and the workers and slots that serve them."""
        call.query()
        depths = {d.queue: d for d in await self._depths.get()}
        served: dict[str, list[int]] = {}
        for member in self._coordinator.members("worker").values():
            for queue in member.queues:
                served.setdefault(queue, []).append(member.slots)
        names = sorted(depths.keys() | served.keys())
        return document({"queues": [_queue(depths.get(n) or QueueDepth(queue=n), served.get(n, [])) for n in names]})

    def _members(self, kind: Any) -> list[dict[str, Any]]:
        members: Mapping[str, Member] = self._coordinator.members(kind)
        return [_member(members[name]) for name in sorted(members)]


def _member(member: Member) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(member)
    del shown["kind"]
    shown["started_at"] = datetime.fromtimestamp(member.started_at, UTC)
    if member.kind == "scheduler":
        for absent in ("queues", "slots", "tasks"):
            del shown[absent]
    return shown


def _session(session: Session) -> dict[str, Any]:
    return {
        "id": session.worker_id,
        "incarnation": session.id,
        "host": session.host.name,
        "pid": session.host.pid,
        "queues": session.queues,
        "slots": session.slots,
    }


def _queue(depth: QueueDepth, slots: list[int]) -> dict[str, Any]:
    return {**msgspec.to_builtins(depth), "workers": len(slots), "slots": sum(slots)}
