"""Tests of GET /jobs/{id}/explain: restricted tokens, and servers that are away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import msgspec
import pytest

from taskd.domain.config import Version
from taskd.domain.errors import CoordinatorUnavailable, StoreUnavailable, TransportUnavailable
from taskd.domain.explain.situation import Busy, EntryLocation, Holder, JobSnapshot, Queue, ServingWorker
from taskd.domain.fencing import Dispatch, LeaderRow
from taskd.domain.job import JobStatus
from taskd.domain.scope import Scope
from taskd.domain.token import Keyring, Token, make
from taskd.seams import ConfigEditing, Member
from tests.unit.api_world import NOW, Recorder, asking

W1 = UUID(int=1)


class Cluster(Recorder):
    """A cluster whose state a test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.subjects: dict[int, JobSnapshot] = {}
        self.line_up = Queue(servers=[ServingWorker(W1, "w1", 2, 0)], bound=100)
        self.place: EntryLocation | Exception = EntryLocation()
        self.held_by: Holder | Exception | None = None
        self.member = Member(
            kind="worker", id="w1", incarnation=W1, address="", host="", pid=1, started_at=1.0, tasks=["default"]
        )
        self.rows = [LeaderRow(epoch=1, holder=W1, instance_id="s1", etcd_revision=1, age=0.5)]
        self.editor = cast(ConfigEditing, self)

    def job_is(self, status: JobStatus, job_id: int = 17, **more: Any) -> None:
        fields: dict[str, Any] = {"task": "default", "queue": "default", "priority": 0, "schedule_at": NOW}
        if status is JobStatus.RUNNING:
            fields |= {"worker_id": "w1", "attempt": 1, "started_at": NOW, "lease": NOW + timedelta(seconds=14)}
        self.subjects[job_id] = JobSnapshot(now=NOW, id=job_id, status=status, **(fields | more))

    async def subject(self, job_id: int) -> JobSnapshot | None:
        self._fail()
        return self.subjects.get(job_id)

    async def queue(self, job: JobSnapshot, ageing: float) -> Queue:
        return self.line_up

    async def latest(self) -> Version:
        return Version()

    async def locate(self, dispatch: Dispatch) -> EntryLocation:
        if isinstance(self.place, Exception):
            raise self.place
        return self.place

    async def holder(self, name: str) -> Holder | None:
        if isinstance(self.held_by, Exception):
            raise self.held_by
        return self.held_by

    def members(self, kind: str) -> Mapping[str, Member]:
        return {"w1": self.member} if kind == "worker" else {}


async def explained(
    world: Cluster, path: str = "17", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    async with asking(world, headers=headers) as client:
        response = await client.get(f"/jobs/{path}/explain")
    return response.status_code, response.json()


async def reason(world: Cluster, headers: dict[str, str] | None = None) -> str:
    status, document = await explained(world, headers=headers)
    assert status == 200
    return str(document["reason"])


def for_queue(world: Cluster, queue: str) -> dict[str, str]:
    """Make a token for one queue; return its header."""
    token_id, text, digest = make()
    known = Token(
        id=token_id,
        name="robot",
        digest=digest,
        scopes=frozenset({Scope.READ}),
        queues=frozenset({queue}),
    )
    world.ring = Keyring(closed=True, tokens={token_id: known})
    return {"authorization": f"Bearer {text}"}


@pytest.fixture
def world() -> Cluster:
    return Cluster()


async def test_a_job_claimed_during_the_lookup_of_its_entry_is_running(
    world: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claimed(dispatch: Dispatch) -> EntryLocation:
        world.job_is(JobStatus.RUNNING)
        return EntryLocation(gone=True)

    world.job_is(JobStatus.QUEUED, queued_at=NOW - timedelta(minutes=1), dispatch_seq=1)
    monkeypatch.setattr(world, "locate", claimed)
    assert await reason(world) == "running"


async def test_the_document(world: Cluster) -> None:
    world.job_is(JobStatus.PENDING)
    status, document = await explained(world)
    assert status == 200
    assert document == {
        "id": 17,
        "status": "pending",
        "reason": "dispatching",
        "summary": "It has been due for 0 s, a slot is free, and s1 dispatches it next.",
        "advice": "Ask again. If it stays so, look at that scheduler's log.",
        "detail": {
            "task": "default",
            "queue": "default",
            "priority": 0,
            "leader": "s1",
            "workers": [{"id": "w1", "slots": 2, "busy": 0, "knows_task": True}],
        },
        "at": "2026-01-31T12:00:00Z",
        "seen_by": "scheduler-1",
    }


async def test_unknown_jobs_and_invalid_ids_get_a_404(world: Cluster) -> None:
    assert (await explained(world))[0] == 404
    assert (await explained(world, "x"))[0] == 404
    assert (await explained(world, "17/explain?wait=1&x"))[0] in (404, 422)
    async with asking(world) as client:
        assert (await client.get("/jobs/17/explain?wait=1")).status_code == 422
        assert (await client.post("/jobs/17/explain")).status_code == 405


async def test_without_postgresql_it_is_a_503(world: Cluster) -> None:
    world.failure = StoreUnavailable("PostgreSQL is away")
    status, document = await explained(world)
    assert (status, document["detail"]) == (503, "PostgreSQL is away")


async def test_a_redis_that_refuses_or_hangs_is_the_reason(world: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    world.job_is(JobStatus.QUEUED, queued_at=NOW, dispatch_seq=1)
    assert await reason(world) == "offered"
    world.place = TransportUnavailable("connection refused")
    assert await reason(world) == "redis_away"

    async def never(dispatch: Dispatch) -> EntryLocation:
        await asyncio.Event().wait()
        return EntryLocation()

    monkeypatch.setattr(world, "locate", never)
    began = time.monotonic()
    _, document = await explained(world)
    assert document["summary"].endswith("it did not answer within 0.6 s")
    assert time.monotonic() - began < 1.9


async def test_a_worker_is_silent_by_its_own_lease(world: Cluster) -> None:
    world.job_is(JobStatus.RUNNING, lease=NOW + timedelta(seconds=3))
    assert await reason(world) == "worker_silent"  # the worker reports no lease, and the default is 15 s
    world.member = msgspec.structs.replace(world.member, lease=4.0)
    assert await reason(world) == "running"
    world.member = msgspec.structs.replace(world.member, lease=60.0)
    world.job_is(JobStatus.RUNNING, lease=NOW + timedelta(seconds=20))
    assert await reason(world) == "worker_silent"


async def test_a_wait_for_a_lock_comes_from_the_worker_and_its_holder_from_etcd(world: Cluster) -> None:
    world.job_is(JobStatus.RUNNING)
    world.held_by = Holder(job_id=4, attempt=1, worker_id="w2")
    assert await reason(world) == "running"
    world.member.waits[17] = "printer"
    assert await reason(world) == "lock_held"
    for other in (Holder(job_id=17, attempt=1), None, CoordinatorUnavailable("away")):
        world.held_by = other  # the job has the lock by now, or the lock is free, or its holder is unknown
        assert await reason(world) == "running"


async def test_a_cancelled_task_is_stopping_while_its_worker_reports_it(world: Cluster) -> None:
    world.job_is(JobStatus.CANCELLED, outcome="cancelled", worker_id="w1", attempt=1, completed_at=NOW)
    assert await reason(world) == "cancelled"
    world.member.stopping.append(17)
    assert await reason(world) == "stopping"


async def test_jobs_of_other_queues_are_not_shown_to_a_restricted_token(world: Cluster) -> None:
    world.job_is(JobStatus.PENDING)
    headers = for_queue(world, "default")
    slots = [Busy(3, "secret", "theirs", "w1", NOW), Busy(4, "own", "default", "w1", NOW)]
    world.line_up = Queue(servers=[ServingWorker(W1, "w1", 2, 2)], longest=slots, bound=100)
    _, document = await explained(world, headers=headers)
    assert (document["reason"], [job["id"] for job in document["detail"]["longest"]]) == ("slots_busy", [4])

    world.job_is(JobStatus.RUNNING)
    world.job_is(JobStatus.RUNNING, 3, queue="theirs")
    world.job_is(JobStatus.RUNNING, 4)
    world.member.waits[17] = "printer"
    world.held_by = Holder(job_id=3, attempt=1, worker_id="w1", host="box", pid=9)
    _, document = await explained(world, headers=headers)
    assert document["detail"]["lock_holder"] == {"worker_id": "w1"}
    assert "another job on w1 holds" in document["summary"]
    world.held_by = Holder(job_id=4, attempt=1, worker_id="w1")
    _, document = await explained(world, headers=headers)
    assert document["detail"]["lock_holder"]["job_id"] == 4
    assert (await explained(world, "3", headers))[0] == 404
