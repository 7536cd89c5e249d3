"""What there is to see of the cluster: health, counters, who leads, who is there."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from functools import partial

from msgspec import UNSET

from taskd.api.answers import Answer, document
from taskd.api.call import Call
from taskd.api.documents import (
    AliveView,
    HealthView,
    LeaderView,
    MetricsView,
    QueuesView,
    QueueView,
    SchedulersView,
    SchedulerView,
    ShardView,
    WorkersView,
    WorkerView,
)
from taskd.api.queues import everything
from taskd.api.reading import Recent
from taskd.domain.errors import StoreUnavailable
from taskd.domain.fencing import LeaderRow, Session
from taskd.domain.health import public
from taskd.domain.job import Counts, Depths, QueueDepth
from taskd.runtime import meters
from taskd.seams import Coordinator, Member, MemberKind, Reads, Standing, Terms

ETCD_AWAY = "etcd is away"


class Cluster:
    """Shows the cluster as this scheduler sees it."""

    def __init__(
        self, overview: Reads, terms: Terms, coordinator: Coordinator, standing: Standing, leader_stale: float
    ) -> None:
        self._coordinator = coordinator
        self._standing = standing
        self._leader_stale = leader_stale
        self._counts = Recent(overview.counts, repeat=True)
        self._overview = overview
        #: By the queues that a token is for (None: all). Operators make the tokens, so there are few.
        self._depths: dict[frozenset[str] | None, Recent[Depths]] = {}
        self._scraping = asyncio.Lock()
        self._sessions = Recent(overview.sessions)
        self._leaderships = Recent(terms.current, age=0.5)

    async def alive(self, _: Call) -> Answer:
        """GET /alive: 200 from whoever answers at all. A restart mends a process that hangs, but no server that is away."""
        return document(AliveView())

    async def health(self, _: Call) -> Answer:
        """GET /health: 503 only when this scheduler cannot do its work, which is to store jobs. No round trip."""
        components = self._standing.components()
        able = components["postgres"].ok
        well = all(c.ok for c in components.values())
        view = HealthView(
            status="unhealthy" if not able else "healthy" if well else "degraded",
            instance_id=self._standing.instance_id,
            is_leader=bool(self._standing.terms),
            coordinator_health=components["etcd"].ok,
            timestamp=int(time.time()),
            components=public(components),
        )
        return document(view, 200 if able else 503)

    async def metrics(self, call: Call) -> Answer:
        """GET /metrics: as text if `Accept` asks for it, as Prometheus does, else as JSON; times are Unix seconds."""
        everything(call)
        accept = (call.header(b"accept") or b"").decode("latin-1")
        if meters.wants_text(accept):
            return await self._exposition(accept)
        counts = await self._counts.get()
        return document(
            MetricsView(
                timestamp=int(time.time()),
                instance_id=self._standing.instance_id,
                is_leader=bool(self._standing.terms),
                pending_jobs=counts.pending,
                queued_jobs=counts.queued,
                running_jobs=counts.running,
                completed_jobs=counts.completed,
                failed_jobs=counts.failed,
                cancelled_jobs=counts.cancelled,
                jobs_dispatched=counts.dispatched,
                last_dispatch=int(counts.last_dispatch.timestamp()) if counts.last_dispatch else None,
                event_loop_tasks=len(asyncio.all_tasks()),
            )
        )

    async def _exposition(self, accept: str) -> Answer:
        """The figures as text. Without PostgreSQL those of the whole cluster are left out, and `taskd_up` says why."""
        try:
            counts, depths = await self._counts.get(), await self._depths_of(None).get()
        except StoreUnavailable:
            counts, depths = None, Depths(queues=[])
        async with self._scraping:  # two scrapes at once would empty each other's gauges
            meters.show_servers(self._standing.components())
            meters.LEADING.set(len(self._standing.terms))
            self._measure(counts, depths)
            text, content_type = await asyncio.to_thread(meters.exposition, accept)
        return Answer(200, text, content_type=content_type.encode())

    def _measure(self, counts: Counts | None, depths: Depths) -> None:
        """Set the gauges of the whole cluster; without counts there are none."""
        for gauge in (meters.JOBS, meters.OLDEST, meters.FINISHED):
            gauge.clear()
        meters.QUEUES_LEFT_OUT.set(depths.left_out)
        if counts is None:
            return
        # A queue that a worker serves and that has no job is at zero, not away.
        empty = sorted(self._served().keys() - {depth.queue for depth in depths.queues})
        for depth in [*depths.queues, *(QueueDepth(queue=queue) for queue in empty)][: meters.MOST_QUEUES]:
            for status in ("pending", "queued", "running"):
                meters.JOBS.labels(depth.queue, status).set(getattr(depth, status))
            meters.OLDEST.labels(depth.queue).set(depth.oldest or 0.0)
        for status in ("pending", "queued", "running") if depths.left_out else ():
            meters.JOBS.labels(meters.OTHERS, status).set(getattr(depths, status))
        for status in ("completed", "failed", "cancelled"):
            meters.FINISHED.labels(status).set(getattr(counts, status))

    async def leader(self, call: Call) -> Answer:
        """GET /leader: who may dispatch, by PostgreSQL; by etcd while PostgreSQL is away."""
        call.query()
        views = await self._shards()
        view = LeaderView(
            current_leader=views[0].current_leader,
            is_leader=bool(self._standing.terms),
            instance_id=self._standing.instance_id,
            epoch=views[0].epoch,
            shards=views if len(views) > 1 else UNSET,
        )
        return document(view)

    async def _shards(self) -> list[ShardView]:
        """Every shard, the first one first. Of what we lead nobody has to be asked."""
        own, led, shards = self._standing.instance_id, self._standing.terms, range(self._standing.shards)
        try:
            rows = {row.shard: row for row in await self._leaderships.get()} if len(led) < len(shards) else {}
        except StoreUnavailable:
            views = [self._by_etcd(shard) for shard in shards]
        else:
            views = [self._by_row(shard, rows.get(shard)) for shard in shards]
        for shard, term in led.items():
            views[shard] = ShardView(shard=shard, current_leader=own, epoch=term.epoch)
        return views

    def _by_etcd(self, shard: int) -> ShardView:
        first = next(iter(self._coordinator.line(shard)), None)
        return ShardView(shard=shard, current_leader=first.instance_id if first else None)

    def _by_row(self, shard: int, row: LeaderRow | None) -> ShardView:
        """A shard that nobody ever led has no row."""
        if row is None:
            return ShardView(shard=shard, current_leader=None, epoch=0)
        return ShardView(shard=shard, current_leader=self._holder(row), epoch=row.epoch)

    def _holder(self, row: LeaderRow) -> str | None:
        return row.instance_id if row.holder is not None and row.age < self._leader_stale else None

    async def workers(self, call: Call) -> Answer:
        """GET /workers: from etcd with rates and tasks; from PostgreSQL's sessions while etcd is away."""
        call.query()
        if self._coordinator.health.ok:
            return document(WorkersView(source="etcd", workers=[_worker(m) for m in self._members("worker")]))
        sessions = [_session(s) for s in await self._sessions.get()]
        note = f"{ETCD_AWAY}: these are the sessions in PostgreSQL, without addresses and rates"
        return document(WorkersView(source="postgres", note=note, workers=sessions))

    async def schedulers(self, call: Call) -> Answer:
        """GET /schedulers."""
        call.query()
        view = SchedulersView(source="etcd", schedulers=[_scheduler(m) for m in self._members("scheduler")])
        if not self._coordinator.health.ok:
            view.note = f"{ETCD_AWAY}: these are the schedulers that were there when it was last seen"
        return document(view)

    async def queues(self, call: Call) -> Answer:
        """GET /queues: live jobs, and the workers and slots that serve them."""
        call.query()
        found = await self._depths_of(call.caller.queues).get()
        depths, served = {d.queue: d for d in found.queues}, self._served()
        empty = sorted(name for name in served.keys() - depths.keys() if call.caller.sees(name))
        names = sorted([*depths, *empty[: max(0, meters.MOST_QUEUES - len(depths))]])
        views = [_queue(depths.get(n) or QueueDepth(queue=n), served.get(n, [])) for n in names]
        return document(QueuesView(queues=views, left_out=found.left_out or UNSET))

    def _depths_of(self, queues: frozenset[str] | None) -> Recent[Depths]:
        found = self._depths.get(queues)
        if found is None:
            read = partial(self._overview.depths, queues, meters.MOST_QUEUES)
            found = self._depths[queues] = Recent(read, repeat=True)
        return found

    def _served(self) -> dict[str, list[int]]:
        """The slots of each worker that serves a queue, by queue."""
        served: dict[str, list[int]] = {}
        for member in self._members("worker"):
            for queue in member.queues:
                served.setdefault(queue, []).append(member.slots)
        return served

    def _members(self, kind: MemberKind) -> list[Member]:
        members = self._coordinator.members(kind)
        return [members[name] for name in sorted(members)]


def _scheduler(member: Member) -> SchedulerView:
    return SchedulerView(
        id=member.id,
        incarnation=member.incarnation,
        address=member.address,
        host=member.host,
        pid=member.pid,
        started_at=datetime.fromtimestamp(member.started_at, UTC),
        stats=member.stats,
    )


def _worker(member: Member) -> WorkerView:
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


def _session(session: Session) -> WorkerView:
    return WorkerView(
        id=session.worker_id,
        incarnation=session.id,
        host=session.host.name,
        pid=session.host.pid,
        queues=list(session.queues),
        slots=session.slots,
    )


def _queue(depth: QueueDepth, slots: list[int]) -> QueueView:
    return QueueView(
        queue=depth.queue,
        pending=depth.pending,
        queued=depth.queued,
        running=depth.running,
        oldest_pending=depth.oldest,
        workers=len(slots),
        slots=sum(slots),
    )
