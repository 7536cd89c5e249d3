"""The state of the cluster: health, counters, leaders, schedulers and workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from msgspec import UNSET

from taskd.api.members import scheduler_view, session_view, worker_view
from taskd.api.queue_access import require_all
from taskd.api.queues import QueueFigures
from taskd.api.reads import CachedRead
from taskd.api.request import Request
from taskd.api.responses import Response, document
from taskd.api.routes import READ_PROBLEMS, Operation, Resource, Result, Route
from taskd.api.views import (
    AliveView,
    HealthView,
    LeadersView,
    MetricsView,
    SchedulersView,
    ShardView,
    WorkersView,
)
from taskd.domain.errors import StoreUnavailable
from taskd.domain.fencing import LeaderRow
from taskd.domain.health import public
from taskd.domain.job import Counts, Depths, QueueDepth
from taskd.domain.scope import Scope
from taskd.runtime import meters
from taskd.seams import Coordinator, Member, MemberKind, Reads, Standing, Terms

ETCD_AWAY = "etcd is away"

TAG = "Cluster"
TEXTS = ("text/plain", "application/openmetrics-text")

ALIVE = Operation(TAG, "alive", "Check that this scheduler answers", {200: Result(AliveView, "The scheduler answers")})
HEALTH = Operation(
    TAG,
    "health",
    "Show this scheduler's health",
    {200: Result(HealthView, "Healthy or degraded"), 503: Result(HealthView, "Unhealthy: it cannot store jobs")},
)
METRICS = Operation(
    TAG,
    "metrics",
    "Show counters",
    {200: Result(MetricsView, "The counters; or text for Prometheus", also=TEXTS)},
    (503,),
)
LEADER = Operation(TAG, "leader", "Show the leaders", {200: Result(LeadersView, "The leaders")}, READ_PROBLEMS)
WORKERS = Operation(TAG, "workers", "List the workers", {200: Result(WorkersView, "The workers")}, READ_PROBLEMS)
SCHEDULERS = Operation(
    TAG, "schedulers", "List the schedulers", {200: Result(SchedulersView, "The schedulers")}, (400, 422)
)


class ClusterResource(Resource):
    """Shows the cluster as this scheduler sees it."""

    def __init__(
        self,
        reads: Reads,
        queues: QueueFigures,
        terms: Terms,
        coordinator: Coordinator,
        standing: Standing,
        leader_stale: float,
    ) -> None:
        self._coordinator = coordinator
        self._standing = standing
        self._leader_stale = leader_stale
        self._counts = CachedRead(reads.counts, repeat=True)
        self._queues = queues
        self._scraping = asyncio.Lock()
        self._sessions = CachedRead(reads.sessions)
        self._leaderships = CachedRead(terms.current, age=0.5)

    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", "/alive", self.alive, None, ALIVE),
            Route("GET", "/health", self.health, None, HEALTH),
            Route("GET", "/metrics", self.metrics, Scope.READ, METRICS),
            Route("GET", "/leader", self.leader, Scope.READ, LEADER),
            Route("GET", "/workers", self.workers, Scope.READ, WORKERS),
            Route("GET", "/schedulers", self.schedulers, Scope.READ, SCHEDULERS),
        )

    async def alive(self, _: Request) -> Response:
        """GET /alive: 200 while the event loop runs. A restart helps a process that hangs, and no server that is away."""
        return document(AliveView())

    async def health(self, _: Request) -> Response:
        """GET /health: 503 only while this scheduler cannot store jobs. No round trip."""
        components = self._standing.components()
        able = components["postgres"].ok
        well = all(component.ok for component in components.values())
        view = HealthView(
            status="unhealthy" if not able else "healthy" if well else "degraded",
            instance_id=self._standing.instance_id,
            is_leader=bool(self._standing.terms),
            coordinator_health=components["etcd"].ok,
            timestamp=int(time.time()),
            components=public(components),
        )
        return document(view, 200 if able else 503)

    async def metrics(self, request: Request) -> Response:
        """GET /metrics: text if `Accept` asks for it, as Prometheus does, else JSON; times are Unix seconds."""
        require_all(request)
        accept = (request.header(b"accept") or b"").decode("latin-1")
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

    async def _exposition(self, accept: str) -> Response:
        """Return the metrics as text. Without PostgreSQL they lack those of the cluster, and `taskd_up` shows the cause."""
        try:
            counts, depths = await self._counts.get(), await self._queues.depths(None)
        except StoreUnavailable:
            counts, depths = None, Depths(queues=[])
        async with self._scraping:  # two scrapes at once would clear each other's gauges
            meters.show_servers(self._standing.components())
            meters.LEADING.set(len(self._standing.terms))
            self._measure(counts, depths)
            text, content_type = await asyncio.to_thread(meters.exposition, accept)
        return Response(200, text, content_type=content_type.encode())

    def _measure(self, counts: Counts | None, depths: Depths) -> None:
        """Set the gauges of the whole cluster; clear them without counts."""
        for gauge in (meters.JOBS, meters.OLDEST, meters.FINISHED):
            gauge.clear()
        meters.QUEUES_LEFT_OUT.set(depths.left_out)
        if counts is None:
            return
        # A queue that a worker serves and that has no job is shown with zero.
        empty = sorted(self._queues.slots().keys() - {depth.queue for depth in depths.queues})
        for depth in [*depths.queues, *(QueueDepth(queue=queue) for queue in empty)][: meters.MOST_QUEUES]:
            for status in ("pending", "queued", "running"):
                meters.JOBS.labels(depth.queue, status).set(getattr(depth, status))
            meters.OLDEST.labels(depth.queue).set(depth.oldest or 0.0)
        for status in ("pending", "queued", "running") if depths.left_out else ():
            meters.JOBS.labels(meters.OTHERS, status).set(getattr(depths, status))
        for status in ("completed", "failed", "cancelled"):
            meters.FINISHED.labels(status).set(getattr(counts, status))

    async def leader(self, request: Request) -> Response:
        """GET /leader: the leaders by PostgreSQL; by etcd while PostgreSQL is away."""
        request.query()
        views = await self._shards()
        view = LeadersView(
            current_leader=views[0].current_leader,
            is_leader=bool(self._standing.terms),
            instance_id=self._standing.instance_id,
            epoch=views[0].epoch,
            shards=views if len(views) > 1 else UNSET,
        )
        return document(view)

    async def _shards(self) -> list[ShardView]:
        """Return every shard in order. Shards that this scheduler leads need no read."""
        instance_id, led, shards = self._standing.instance_id, self._standing.terms, range(self._standing.shards)
        try:
            rows = {row.shard: row for row in await self._leaderships.get()} if len(led) < len(shards) else {}
        except StoreUnavailable:
            views = [self._by_etcd(shard) for shard in shards]
        else:
            views = [self._by_row(shard, rows.get(shard)) for shard in shards]
        for shard, term in led.items():
            views[shard] = ShardView(shard=shard, current_leader=instance_id, epoch=term.epoch)
        return views

    def _by_etcd(self, shard: int) -> ShardView:
        first = next(iter(self._coordinator.line(shard)), None)
        return ShardView(shard=shard, current_leader=first.instance_id if first else None)

    def _by_row(self, shard: int, row: LeaderRow | None) -> ShardView:
        """Return the view of a shard; one that never had a leader has no row."""
        if row is None:
            return ShardView(shard=shard, current_leader=None, epoch=0)
        return ShardView(shard=shard, current_leader=self._holder(row), epoch=row.epoch)

    def _holder(self, row: LeaderRow) -> str | None:
        return row.instance_id if row.holder is not None and row.age < self._leader_stale else None

    async def workers(self, request: Request) -> Response:
        """GET /workers: from etcd with rates and tasks; from PostgreSQL's sessions while etcd is away."""
        request.query()
        if self._coordinator.health.ok:
            return document(
                WorkersView(source="etcd", workers=[worker_view(member) for member in self._members("worker")])
            )
        sessions = [session_view(session) for session in await self._sessions.get()]
        note = f"{ETCD_AWAY}: these are the sessions in PostgreSQL, without addresses and rates"
        return document(WorkersView(source="postgres", note=note, workers=sessions))

    async def schedulers(self, request: Request) -> Response:
        """GET /schedulers."""
        request.query()
        schedulers = [scheduler_view(member) for member in self._members("scheduler")]
        view = SchedulersView(source="etcd", schedulers=schedulers)
        if not self._coordinator.health.ok:
            view.note = f"{ETCD_AWAY}: these are the schedulers that it had last"
        return document(view)

    def _members(self, kind: MemberKind) -> list[Member]:
        members = self._coordinator.members(kind)
        return [members[name] for name in sorted(members)]
