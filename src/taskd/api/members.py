"""Views of schedulers and workers, made of members of the registry or of sessions in PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime

from taskd.api.views import SchedulerView, WorkerView
from taskd.domain.fencing import Session
from taskd.seams import Member


def scheduler_view(member: Member) -> SchedulerView:
    """Return the view of a registered scheduler."""
    return SchedulerView(
        id=member.id,
        incarnation=member.incarnation,
        address=member.address,
        host=member.host,
        pid=member.pid,
        started_at=datetime.fromtimestamp(member.started_at, UTC),
        stats=member.stats,
    )


def worker_view(member: Member) -> WorkerView:
    """Return the view of a registered worker."""
    return WorkerView(
        id=member.id,
        incarnation=member.incarnation,
        address=member.address,
        host=member.host,
        pid=member.pid,
        started_at=datetime.fromtimestamp(member.started_at, UTC),
        queues=member.queues,
        slots=member.slots,
        tasks=member.tasks,
        stats=member.stats,
    )


def session_view(session: Session) -> WorkerView:
    """Return the view of a worker's session, with the fields that PostgreSQL has."""
    return WorkerView(
        id=session.worker_id,
        incarnation=session.id,
        host=session.host.name,
        pid=session.host.pid,
        queues=list(session.queues),
        slots=session.slots,
    )
