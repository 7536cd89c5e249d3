"""GET /jobs/{id}/explain: why a job is not running or not finished."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import msgspec

from taskd.api.answers import Answer, document
from taskd.api.call import Call
from taskd.api.jobs import job_id_of
from taskd.api.problems import not_found
from taskd.api.reading import within
from taskd.domain.config import Version
from taskd.domain.errors import CoordinatorUnavailable, TransportUnavailable
from taskd.domain.explain.decide import explain
from taskd.domain.explain.explanation import Explanation
from taskd.domain.explain.obstacles import NAMED
from taskd.domain.explain.situation import EntryLocation, Holder, JobSnapshot, Queue, Seen, Situation, Timings
from taskd.domain.fencing import Dispatch
from taskd.domain.health import AWAY, Health, public
from taskd.domain.job import JobStatus
from taskd.domain.shard import shard_of
from taskd.seams import ConfigEditing, Coordinator, Explained, Standing, Terms, Transport

#: Seconds for which Redis and etcd are waited for: what they would have said is then missing.
PATIENCE = 0.6

T = TypeVar("T")


class Explanations:
    """1. Reads the job, and what it may wait for. 2. Asks Redis or etcd where that is theirs to say. 3. Has it decided.

    Whoever is asked, leader or not, sees the same, but for the health of the servers, which is its own.
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

    async def show(self, call: Call) -> Answer:
        """GET /jobs/{id}/explain: 404 for a job that there is not, 503 without PostgreSQL."""
        job_id = job_id_of(call)
        call.query()
        return document(await within(self._explain(call, job_id)))

    async def _explain(self, call: Call, job_id: int) -> Explanation:
        job = await self._explained.subject(job_id)
        if job is None or not call.caller.sees(job.queue):  # others' jobs are nobody's business
            raise not_found(f"there is no job {job_id}")
        situation = await self._situation(job)
        if situation.place is not None and situation.place.gone:  # lost, or claimed since it was read
            situation = await self._situation(await self._explained.subject(job_id) or job)
        if call.caller.queues is not None:
            situation = await self._discreet(call, situation)
        found = explain(situation)
        return msgspec.structs.replace(found, seen_by=self._standing.instance_id)

    async def _situation(self, job: JobSnapshot) -> Situation:
        """Whatever may be a reason for a job of this status."""
        parts = public(self._standing.components())
        shards = self._standing.shards
        # Silent workers are the business of shard 0.
        shard = shard_of(job.queue, shards) if job.waits else 0
        found = Situation(
            job=job,
            shard=shard,
            shards=shards,
            redis=parts["redis"],
            etcd=parts["etcd"],
            timings=self._timings,
            line=tuple(one.instance_id for one in self._coordinator.line(shard)),
        )
        if job.status.final:
            return msgspec.structs.replace(found, stopping=self._stopping(job))
        leaders = await self._terms.current()
        found = msgspec.structs.replace(found, leader=next((row for row in leaders if row.shard == shard), None))
        return await (self._waiting(found) if job.waits else self._running(found))

    async def _waiting(self, situation: Situation) -> Situation:
        job = situation.job
        queue, live = await asyncio.gather(self._explained.queue(job, self._timings.ageing), self._editor.latest())
        members = self._coordinator.members("worker").values()
        seen = {
            one.incarnation: Seen(
                tasks=frozenset(one.tasks), rates=one.rates, draining=one.stats.get("draining", 0.0) > 0
            )
            for one in members
        }
        redis, place = await self._place(situation)
        known = msgspec.structs.replace(situation, queue=queue, live=live, seen=seen, redis=redis, place=place)
        return msgspec.structs.replace(known, set_by=await self._set_by(known, queue))

    async def _set_by(self, situation: Situation, queue: Queue) -> dict[str, Version]:
        """Who paused the queue, or made its workers quiet; asked for only if that is what keeps the job."""
        live, name = situation.live, situation.job.queue
        keys = [f"queue.{name}.paused"] if live.paused(name) else []
        if not situation.takers:
            keys += [f"worker.{one.worker_id}.quiet" for one in queue.servers[:NAMED] if live.quiet(one.worker_id)]
        found = {key: await self._editor.since(key) for key in keys}
        return {key: version for key, version in found.items() if version is not None}

    async def _place(self, situation: Situation) -> tuple[Health, EntryLocation | None]:
        """Where a queued job's entry is; and whether Redis, asked for it, answers."""
        job, redis = situation.job, situation.redis
        if job.status is not JobStatus.QUEUED or not redis.ok:
            return redis, None
        try:
            return redis, await _soon(
                self._transport.locate(Dispatch(job.id, job.dispatch_seq, job.queue, job.priority))
            )
        except TransportUnavailable:
            said = AWAY
        except TimeoutError:
            said = f"it did not answer within {PATIENCE:g} s"
        return Health(ok=False, since=job.now.timestamp(), detail=said), None

    async def _running(self, situation: Situation) -> Situation:
        job = situation.job
        member = self._coordinator.members("worker").get(job.worker_id or "")
        if member is None:
            return situation
        if member.lease:  # its own setting, which may differ from ours
            timings = msgspec.structs.replace(situation.timings, lease=member.lease)
            situation = msgspec.structs.replace(situation, timings=timings)
        lock = member.waits.get(job.id)
        if lock is None:
            return situation
        holder = await self._holder(lock)
        # It may have got it since its worker said so.
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

    async def _discreet(self, call: Call, situation: Situation) -> Situation:
        """Without the jobs of queues that are none of the caller's."""
        queue, holder = situation.queue, situation.holder
        if queue is not None:
            own = [one for one in queue.longest if call.caller.sees(one.queue)]
            queue = msgspec.structs.replace(queue, longest=own)
        if holder is not None and holder.job_id is not None:
            other = await self._explained.subject(holder.job_id)
            if other is None or not call.caller.sees(other.queue):
                holder = Holder(worker_id=holder.worker_id)
        return msgspec.structs.replace(situation, queue=queue, holder=holder)


async def _soon(asked: Awaitable[T]) -> T:
    async with asyncio.timeout(PATIENCE):
        return await asked
