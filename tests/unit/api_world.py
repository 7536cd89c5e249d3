"""A scheduler's API with recording seams, for tests of parsing, validation and rendering without servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID, uuid4

import httpx
import msgspec

from taskd.api import Api, build
from taskd.domain.config import Version
from taskd.domain.explain.situation import Timings
from taskd.domain.fencing import Host, LeaderRow, Session, Term
from taskd.domain.job import (
    Counts,
    Depths,
    Ended,
    Job,
    JobFilter,
    JobSpec,
    JobStatus,
    Page,
    QueueDepth,
    Stretch,
    Submitted,
)
from taskd.domain.output import Line, LogPosition, StoredChunk
from taskd.domain.token import Keyring
from taskd.seams import ConfigEditing, Coordinator, Explained, Health, Leader, Member, Schedules, Terms, Transport
from taskd.settings import HttpSettings

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
OK = Health(ok=True, since=1.0)
AWAY = Health(ok=False, since=2.0, detail="connection refused")
LIMITS = HttpSettings(max_job_bytes=10_000, max_batch_bytes=100_000, max_batch_jobs=50)


class Recorder:
    """Intake, Cancels, Reads, Terms, Standing and Coordinator in one: records calls, shows what a test sets."""

    def __init__(self) -> None:
        self.specs: list[JobSpec] = []
        self.found: dict[int, Job] = {}
        self.page: list[Job] = []
        self.wanted: list[JobFilter] = []
        self.published: list[Version] = []
        self.editor: ConfigEditing = cast(ConfigEditing, None)
        self.schedules: Schedules = cast(Schedules, None)
        self.ends: list[Ended] = []
        self.further: int | None = None
        self.cancels: list[list[int]] = []
        self.retries: list[list[int]] = []
        self.ends_as: JobStatus | None = None  # the status with which a job ends during its cancel
        self.failure: Exception | None = None
        self.duplicate_of: int | None = None
        self.count_reads = 0
        self.instance_id = "scheduler-1"
        self.shards = 1
        self.terms: dict[int, Term] = {}
        self.health = OK
        self.lines: dict[int, list[Leader]] = {}
        self.parts = {"postgres": OK, "redis": OK, "etcd": OK}
        self.ring = Keyring(closed=False, tokens={})
        self.no_keyring: Exception | None = None
        self.output: dict[int, list[tuple[int, int, list[Line]]]] = {}
        self.gate: asyncio.Event | None = None  # the keyring waits for this event
        self.lost_answer: Exception | None = None  # the error with which a cancel ends, although it was made
        self.allow_anonymous = True
        self.rows = [LeaderRow(epoch=0, holder=None, instance_id="", etcd_revision=0, age=0.0)]

    async def submit(self, spec: JobSpec) -> Submitted:
        self._fail()
        self.specs.append(spec)
        if self.duplicate_of is not None:
            return Submitted(self.duplicate_of, True, NOW, NOW)
        return Submitted(len(self.specs), False, NOW, spec.schedule_at or NOW)

    async def submit_many(self, specs: Sequence[JobSpec]) -> list[Submitted]:
        return [await self.submit(spec) for spec in specs]

    async def job(self, job_id: int) -> Job | None:
        self._fail()
        return self.found.get(job_id)

    async def jobs(self, wanted: JobFilter) -> Page:
        self.wanted.append(wanted)
        return Page(self.page[: wanted.limit], more=len(self.page) > wanted.limit)

    async def final(self, job_ids: Collection[int]) -> set[int]:
        return {i for i in job_ids if i not in self.found or self.found[i].status.final}

    async def cancel(self, job_ids: Collection[int]) -> set[int]:
        self._fail()
        self.cancels.append(sorted(job_ids))
        if self.lost_answer is not None:
            raise self.lost_answer
        if self.ends_as is not None:
            self.found |= {i: msgspec.structs.replace(self.found[i], status=self.ends_as) for i in job_ids}
            return set()
        live = {i for i in job_ids if i in self.found and not self.found[i].status.final}
        self.found |= {i: msgspec.structs.replace(self.found[i], status=JobStatus.CANCELLED) for i in live}
        return live

    async def ended(self, wanted: Ended) -> Stretch:
        self.ends.append(wanted)
        return Stretch([j for j in self.found.values() if j.status.final], self.further)

    async def cancellable(self, wanted: JobFilter) -> list[int]:
        self.wanted.append(wanted)
        return [j.id for j in self._newest(wanted) if not j.status.final]

    async def retriable(self, wanted: JobFilter) -> list[int]:
        self.wanted.append(wanted)
        return [j.id for j in self._newest(wanted) if j.status == wanted.status and j.retried_as is None]

    def _newest(self, wanted: JobFilter) -> list[Job]:
        below = wanted.before if wanted.before is not None else 2**63
        return sorted((j for i, j in self.found.items() if i < below), key=lambda j: j.id, reverse=True)[: wanted.limit]

    async def read(self, job_id: int, attempt: int | None, after: LogPosition, limit: int) -> list[StoredChunk]:
        self._fail()
        chunks = (StoredChunk(number, line, body) for number, line, body in self.output.get(job_id, []))
        later = [c for c in chunks if (c.attempt, c.line) > after and attempt in (None, c.attempt)]
        return later[:limit]

    async def of(self, job_ids: Collection[int]) -> dict[int, list[StoredChunk]]:
        return {job_id: await self.read(job_id, None, LogPosition(), 10**6) for job_id in job_ids}

    async def retry(self, job_ids: Collection[int]) -> dict[int, int]:
        self._fail()
        self.retries.append(sorted(job_ids))
        retries = {}
        for old in job_ids:
            job = self.found.get(old)
            if job is not None and job.status in (JobStatus.FAILED, JobStatus.CANCELLED) and job.retried_as is None:
                retries[old] = new = max(self.found) + 1
                self.found[old] = msgspec.structs.replace(job, retried_as=new)
                self.found[new] = a_job(new, parent_id=old)
        return retries

    async def counts(self) -> Counts:
        self._fail()
        self.count_reads += 1
        return Counts(
            pending=1, queued=2, running=3, completed=4, failed=5, cancelled=6, dispatched=7, last_dispatch=NOW
        )

    async def depths(self, queues: Collection[str] | None, limit: int) -> Depths:
        depths = [QueueDepth(queue="default", pending=2)]
        return Depths(queues=[depth for depth in depths if queues is None or depth.queue in queues])

    async def sessions(self) -> list[Session]:
        host = Host("box", "boot", 17, 1)
        return [Session(id=UUID(int=1), worker_id="worker-1", host=host, queues=("default",), slots=8)]

    async def ping(self) -> None:
        self._fail()

    async def current(self) -> list[LeaderRow]:
        self._fail()
        return self.rows

    def line(self, shard: int) -> Sequence[Leader]:
        return self.lines.get(shard, ())

    def components(self) -> dict[str, Health]:
        return self.parts

    async def publish(self, version: Version) -> None:
        self.published.append(version)

    def members(self, kind: str) -> Mapping[str, Member]:
        member = Member(
            kind="worker" if kind == "worker" else "scheduler",
            id=f"{kind}-1",
            incarnation=uuid4(),
            address="http://box:9090",
            host="box",
            pid=17,
            started_at=time.time(),
            queues=["default", "idle"],
            slots=8,
        )
        return {member.id: member}

    async def keyring(self) -> Keyring:
        if self.no_keyring is not None:
            raise self.no_keyring
        if self.gate is not None:
            await self.gate.wait()
        return self.ring

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure

    def api(self, settings: HttpSettings = LIMITS) -> Api:
        return build(
            intake=self,
            cancels=self,
            retries=self,
            reads=self,
            terms=cast(Terms, self),
            coordinator=cast(Coordinator, self),
            standing=self,
            editor=self.editor,
            tokens=self,
            log_reader=self,
            schedules=self.schedules,
            settings=settings,
            explained=cast(Explained, self),
            transport=cast(Transport, self),
            timings=Timings(),
            allow_anonymous=self.allow_anonymous,
        )


def a_job(job_id: int = 17, status: JobStatus = JobStatus.PENDING, **more: Any) -> Job:
    """Return a job with common values."""
    fields: dict[str, Any] = {
        "task": "default",
        "queue": "default",
        "priority": 0,
        "payload": msgspec.Raw(b'{"a":1}'),
        "created_at": NOW,
        "attempt": 0,
        "max_retries": 3,
    }
    return Job(id=job_id, status=status, **(fields | more))


@asynccontextmanager
async def asking(
    world: Recorder, settings: HttpSettings = LIMITS, headers: Mapping[str, str] | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the world's API. An exception that leaves the API fails the test; it does not become a 500."""
    transport = httpx.ASGITransport(app=cast(Any, world.api(settings)))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
        yield client
