"""GET /jobs/{id}/explain: the reason why a job is not running or not finished."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar

import msgspec

from taskd.api.jobs import TAG, no_job
from taskd.api.parameters import JOB_ID, job_id_of
from taskd.api.reads import within
from taskd.api.request import Request
from taskd.api.responses import Response, document
from taskd.api.routes import READ_PROBLEMS, Operation, Resource, Result, Route
from taskd.domain.config import Version
from taskd.domain.errors import CoordinatorUnavailable, TransportUnavailable
from taskd.domain.explain.decide import explain
from taskd.domain.explain.explanation import Explanation
from taskd.domain.explain.obstacles import NAMED
from taskd.domain.explain.situation import EntryLocation, Holder, JobSnapshot, Queue, Seen, Situation, Timings
from taskd.domain.fencing import Dispatch
from taskd.domain.health import AWAY, Health, public
from taskd.domain.job import JobStatus
from taskd.domain.scope import Scope
from taskd.domain.shard import shard_of
from taskd.seams import ConfigEditing, Coordinator, Explained, Standing, Terms, Transport

#: Seconds for which Redis and etcd are waited for. Later, the explanation does without their data.
PATIENCE = 0.6

T = TypeVar("T")


SHOW = Operation(
    TAG,
    "explainJob",
    "Explain why a job is not running or not finished",
    {200: Result(Explanation, "The reason, and other reasons that hold too")},
    (404, *READ_PROBLEMS),
    (JOB_ID,),
)


class ExplainResource(Resource):
    """Explains jobs in three steps.

    1. Read the job, and what it may wait for, from PostgreSQL.
    2. Ask Redis or etcd for what only they know.
    3. Have `domain.explain` choose the reason.

    Every scheduler, leader or not, gives the same explanation, except for the health of the servers, which is its own view.
    """

    def __init__(
        self,
        explained: Explained,
        terms: Terms,
        editor: ConfigEditing,
        coordinator: Coordinator,
        transport: Transport,
        standing: Standing,
        timings: Timings,
    ) -> None:
        self._explained = explained
        self._terms = terms
        self._editor = editor
        self._coordinator = coordinator
        self._transport = transport
        self._standing = standing
        self._timings = timings

    def routes(self) -> Sequence[Route]:
        return (Route("GET", "/jobs/{id}/explain", self.show, Scope.READ, SHOW),)

    async def show(self, request: Request) -> Response:
        """GET /jobs/{id}/explain: 404 for an unknown job, 503 without PostgreSQL."""
        job_id = job_id_of(request)
        request.query()
        return document(await within(self._explain(request, job_id)))

    async def _explain(self, request: Request, job_id: int) -> Explanation:
        job = await self._explained.subject(job_id)
        if job is None or not request.caller.sees(job.queue):  # the job of another queue is not disclosed
            raise no_job(job_id)
        situation = await self._situation(job)
        if situation.place is not None and situation.place.gone:  # lost, or claimed since it was read
            situation = await self._situation(await self._explained.subject(job_id) or job)
        if request.caller.queues is not None:
            situation = await self._redacted(request, situation)
        return msgspec.structs.replace(explain(situation), seen_by=self._standing.instance_id)

    async def _situation(self, job: JobSnapshot) -> Situation:
        """Collect what may be a reason for a job of this status."""
        parts = public(self._standing.components())
        shards = self._standing.shards
        # Jobs that have a worker are watched by the leader of shard 0.
        shard = shard_of(job.queue, shards) if job.waits else 0
        situation = Situation(
            job=job,
            shard=shard,
            shards=shards,
            redis=parts["redis"],
            etcd=parts["etcd"],
            timings=self._timings,
            line=tuple(candidate.instance_id for candidate in self._coordinator.line(shard)),
        )
        if job.status.final:
            return msgspec.structs.replace(situation, stopping=self._stopping(job))
        leaders = await self._terms.current()
        leader = next((row for row in leaders if row.shard == shard), None)
        situation = msgspec.structs.replace(situation, leader=leader)
        return await (self._waiting(situation) if job.waits else self._running(situation))

    async def _waiting(self, situation: Situation) -> Situation:
        job = situation.job
        queue, config = await asyncio.gather(self._explained.queue(job, self._timings.ageing), self._editor.latest())
        members = self._coordinator.members("worker").values()
        seen = {
            member.incarnation: Seen(
                tasks=frozenset(member.tasks), rates=member.rates, draining=member.stats.get("draining", 0.0) > 0
            )
            for member in members
        }
        redis, place = await self._place(situation)
        situation = msgspec.structs.replace(situation, queue=queue, live=config, seen=seen, redis=redis, place=place)
        return msgspec.structs.replace(situation, set_by=await self._set_by(situation, queue))

    async def _set_by(self, situation: Situation, queue: Queue) -> dict[str, Version]:
        """Return the versions that paused the queue or made its workers quiet; read only if that keeps the job waiting."""
        config, name = situation.live, situation.job.queue
        keys = [f"queue.{name}.paused"] if config.paused(name) else []
        if not situation.takers:
            worker_ids = [server.worker_id for server in queue.servers[:NAMED]]
            keys += [f"worker.{worker_id}.quiet" for worker_id in worker_ids if config.quiet(worker_id)]
        versions = {key: await self._editor.since(key) for key in keys}
        return {key: version for key, version in versions.items() if version is not None}

    async def _place(self, situation: Situation) -> tuple[Health, EntryLocation | None]:
        """Return the health of Redis, and the location of a queued job's entry there."""
        job, redis = situation.job, situation.redis
        if job.status is not JobStatus.QUEUED or not redis.ok:
            return redis, None
        try:
            return redis, await _soon(
                self._transport.locate(Dispatch(job.id, job.dispatch_seq, job.queue, job.priority))
            )
        except TransportUnavailable:
            detail = AWAY
        except TimeoutError:
            detail = f"it did not answer within {PATIENCE:g} s"
        return Health(ok=False, since=job.now.timestamp(), detail=detail), None

    async def _running(self, situation: Situation) -> Situation:
        job = situation.job
        member = self._coordinator.members("worker").get(job.worker_id or "")
        if member is None:
            return situation
        if member.lease:  # the worker's own setting may differ from the scheduler's
            timings = msgspec.structs.replace(situation.timings, lease=member.lease)
            situation = msgspec.structs.replace(situation, timings=timings)
        lock = member.waits.get(job.id)
        if lock is None:
            return situation
        holder = await self._holder(lock)
        # The job may have got the lock since its worker reported that it waits.
        if holder is None or (holder.job_id, holder.attempt) == (job.id, job.attempt):
            return situation
        return msgspec.structs.replace(situation, lock=lock, holder=holder)

    async def _holder(self, lock: str) -> Holder | None:
        try:
            return await _soon(self._coordinator.holder(lock))
        except (CoordinatorUnavailable, TimeoutError):
            return None

    def _stopping(self, job: JobSnapshot) -> bool:
        if job.outcome != "cancelled":
            return False
        member = self._coordinator.members("worker").get(job.worker_id or "")
        return member is not None and job.id in member.stopping

    async def _redacted(self, request: Request, situation: Situation) -> Situation:
        """Return the situation without jobs of queues that the caller may not see."""
        queue, holder = situation.queue, situation.holder
        if queue is not None:
            longest = [job for job in queue.longest if request.caller.sees(job.queue)]
            queue = msgspec.structs.replace(queue, longest=longest)
        if holder is not None and holder.job_id is not None:
            other = await self._explained.subject(holder.job_id)
            if other is None or not request.caller.sees(other.queue):
                holder = Holder(worker_id=holder.worker_id)
        return msgspec.structs.replace(situation, queue=queue, holder=holder)


async def _soon(answer: Awaitable[T]) -> T:
    async with asyncio.timeout(PATIENCE):
        return await answer
