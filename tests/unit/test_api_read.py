"""Tests of reads: jobs, pages, long polls, and the cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import timedelta, timezone
from typing import Any, cast
from uuid import uuid4

import httpx
import msgspec
import pytest

from taskd.api import reads
from taskd.api.reads import CachedRead, within
from taskd.domain.errors import StoreUnavailable
from taskd.domain.fencing import LeaderRow, Term
from taskd.domain.health import AWAY as DETAIL
from taskd.domain.job import Attempt, JobFilter, JobStatus
from taskd.seams import Leader
from tests.servers import wait_until_async
from tests.unit.api_world import AWAY, NOW, Recorder, a_job, asking


async def test_a_job_shows_every_field_that_is_not_null(client: httpx.AsyncClient, world: Recorder) -> None:
    world.found[17] = a_job(
        17,
        JobStatus.FAILED,
        error="boom",
        worker_id="worker-1",
        completed_at=NOW,
        attempts=[Attempt(1, "worker-1", NOW, NOW, "failed", "boom")],
    )
    response = await client.get("/jobs/17")
    assert response.status_code == 200
    job = response.json()
    assert job["error"] == "boom"
    assert job["completed_at"] == "2026-01-31T12:00:00Z"
    assert "result" not in job
    assert job["attempts"] == [
        {
            "attempt": 1,
            "worker_id": "worker-1",
            "started_at": "2026-01-31T12:00:00Z",
            "ended_at": "2026-01-31T12:00:00Z",
            "outcome": "failed",
            "error": "boom",
        }
    ]


async def test_times_are_rendered_in_utc_wherever_they_come_from(client: httpx.AsyncClient, world: Recorder) -> None:
    east = NOW.astimezone(timezone(timedelta(hours=5)))
    attempts = [Attempt(1, "worker-1", east, east)]
    world.found[17] = a_job(17, created_at=east, started_at=east, attempts=attempts)
    job = (await client.get("/jobs/17")).json()
    times = [job["created_at"], job["started_at"], job["attempts"][0]["started_at"], job["attempts"][0]["ended_at"]]
    assert times == ["2026-01-31T12:00:00Z"] * 4


@pytest.mark.parametrize("text", ["0", "-1", "+1", "1.5", "x", "٣", "9223372036854775808", "9" * 5000, "1%00", "17%20"])
async def test_an_invalid_id_gets_a_404(client: httpx.AsyncClient, text: str) -> None:
    response = await client.get(f"/jobs/{text}")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


async def test_an_unknown_path_gets_a_404_and_a_wrong_method_a_405(client: httpx.AsyncClient) -> None:
    assert (await client.get("/nope")).json()["status"] == 404
    assert (await client.get("/jobs/")).status_code == 404
    response = await client.delete("/jobs")
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, HEAD, POST"
    assert (await client.get("/jobs/batch")).headers["allow"] == "POST"


async def test_a_page_links_to_the_next_one(client: httpx.AsyncClient, world: Recorder) -> None:
    world.page = [a_job(i) for i in (9, 8, 7)]
    response = await client.get("/jobs?limit=2&queue=default&status=pending")
    assert [job["id"] for job in response.json()] == [9, 8]
    assert response.headers["link"] == '</jobs?limit=2&queue=default&status=pending&cursor=8>; rel="next"'
    last = await client.get("/jobs?limit=3&cursor=10&task=t")
    assert "link" not in last.headers
    assert world.wanted[1] == JobFilter(task="t", before=10, limit=3)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=done", "status"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("cursor=-5", "cursor"),
        ("queue=a%00b", "queue"),
        ("task=", "task"),
        ("stauts=failed", "stauts"),
        ("limit=1&limit=2", "limit"),
    ],
)
async def test_a_bad_query_is_named_in_a_422(client: httpx.AsyncClient, query: str, field: str) -> None:
    response = await client.get(f"/jobs?{query}")
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == field


async def test_a_query_that_is_not_text_gets_a_400(client: httpx.AsyncClient) -> None:
    assert (await client.get("/jobs?queue=%ff")).status_code == 400


@pytest.mark.parametrize("wait", ["-1", "61", "nan", "inf", "x", ""])
async def test_a_wait_is_seconds_up_to_sixty(client: httpx.AsyncClient, wait: str) -> None:
    assert (await client.get(f"/jobs/17?wait={wait}")).status_code == 422


class Finishing(Recorder):
    """A cluster whose jobs become final when the test sets it; it counts the queries for them."""

    def __init__(self) -> None:
        super().__init__()
        self.questions: list[set[int]] = []
        self.asked = asyncio.Event()

    async def final(self, job_ids: Collection[int]) -> set[int]:
        self.questions.append(set(job_ids))
        self.asked.set()
        return await super().final(job_ids)


async def test_waits_end_when_the_job_is_final_and_share_their_queries() -> None:
    world = Finishing()
    world.found = {i: a_job(i) for i in range(1, 21)}
    async with asking(world) as client:
        waits = [asyncio.create_task(client.get(f"/jobs/{i}?wait=30")) for i in world.found]
        async with asyncio.timeout(5):
            while not world.questions or len(world.questions[-1]) < 20:
                world.asked.clear()
                await world.asked.wait()
            world.found = {i: a_job(i, JobStatus.COMPLETED) for i in world.found}
            responses = [(await w).json()["status"] for w in waits]
    assert responses == ["completed"] * 20
    assert len(world.questions) < 20


async def test_a_wait_that_runs_out_shows_the_current_state(client: httpx.AsyncClient, world: Recorder) -> None:
    world.found[17] = a_job(17)
    response = await client.get("/jobs/17?wait=0.05")
    assert response.status_code == 200
    assert response.json()["status"] == "pending"


async def test_no_request_waits_beyond_a_shutdown() -> None:
    world = Finishing()
    world.found[17] = a_job(17)
    api = world.api()
    transport = httpx.ASGITransport(app=cast(Any, api))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client, asyncio.timeout(5):
        wait = asyncio.create_task(client.get("/jobs/17?wait=60"))
        await world.asked.wait()
        api.close()
        assert (await wait).json()["status"] == "pending"
        assert (await client.get("/jobs/17?wait=60")).json()["status"] == "pending"


async def test_health_says_degraded_while_etcd_is_away(client: httpx.AsyncClient, world: Recorder) -> None:
    well = (await client.get("/health")).json()
    assert (well["status"], well["coordinator_health"]) == ("healthy", True)
    world.parts["etcd"] = AWAY
    response = await client.get("/health")
    assert response.status_code == 200
    health = response.json()
    assert isinstance(health.pop("timestamp"), int)
    assert health == {
        "status": "degraded",
        "instance_id": "scheduler-1",
        "is_leader": False,
        "coordinator_health": False,
        "components": {
            "postgres": {"ok": True, "since": 1.0, "detail": ""},
            "redis": {"ok": True, "since": 1.0, "detail": ""},
            "etcd": {"ok": False, "since": 2.0, "detail": DETAIL},
        },
    }


async def test_health_is_a_503_only_without_postgresql(client: httpx.AsyncClient, world: Recorder) -> None:
    world.parts |= {"redis": AWAY}
    assert (await client.get("/health")).status_code == 200
    world.parts |= {"postgres": AWAY}
    response = await client.get("/health")
    assert response.status_code == 503
    assert response.json()["status"] == "unhealthy"
    assert (await client.get("/alive")).json() == {"status": "alive"}


async def test_a_queue_that_is_served_and_empty_is_at_zero_for_prometheus(client: httpx.AsyncClient) -> None:
    text = (await client.get("/metrics", headers={"Accept": "text/plain"})).text
    assert 'taskd_jobs{queue="default",status="pending"} 2.0' in text
    assert 'taskd_jobs{queue="idle",status="pending"} 0.0' in text


async def test_a_storm_of_scrapes_costs_one_read(client: httpx.AsyncClient, world: Recorder) -> None:
    responses = await asyncio.gather(*(client.get("/metrics") for _ in range(50)))
    assert world.count_reads == 1
    metrics = responses[0].json()
    assert (metrics["pending_jobs"], metrics["jobs_dispatched"], metrics["failed_jobs"]) == (1, 7, 5)
    assert metrics["last_dispatch"] == int(NOW.timestamp())
    assert metrics["event_loop_tasks"] > 1


async def test_the_leader_holds_the_row_until_the_row_is_stale(client: httpx.AsyncClient, world: Recorder) -> None:
    row = LeaderRow(epoch=3, holder=uuid4(), instance_id="scheduler-2", etcd_revision=1, age=1.0)
    world.rows = [row]
    expected = {"current_leader": "scheduler-2", "is_leader": False, "instance_id": "scheduler-1", "epoch": 3}
    assert (await client.get("/leader")).json() == expected
    world.rows = [msgspec.structs.replace(row, age=11.0)]
    async with asking(world) as other:
        assert (await other.get("/leader")).json()["current_leader"] is None


async def test_a_leader_shows_itself_without_a_read(client: httpx.AsyncClient, world: Recorder) -> None:
    world.terms = {0: Term(4, uuid4())}
    world.failure = StoreUnavailable("away")
    leader = (await client.get("/leader")).json()
    assert leader == {"current_leader": "scheduler-1", "is_leader": True, "instance_id": "scheduler-1", "epoch": 4}


async def test_the_leader_comes_from_etcd_while_postgresql_is_away(client: httpx.AsyncClient, world: Recorder) -> None:
    world.failure = StoreUnavailable("away")
    world.lines = {0: [Leader("scheduler-2", uuid4(), 5)]}
    assert (await client.get("/leader")).json()["current_leader"] == "scheduler-2"


async def test_all_shards_are_shown(client: httpx.AsyncClient, world: Recorder) -> None:
    """This scheduler leads shard 2, another one shard 1; the leader of shard 0 is gone, and shard 3 never had one."""
    world.shards, world.terms = 4, {2: Term(7, uuid4(), 2, 4)}
    world.rows = [
        LeaderRow(shard=0, epoch=5, holder=uuid4(), instance_id="scheduler-3", etcd_revision=1, age=11.0),
        LeaderRow(shard=1, epoch=3, holder=uuid4(), instance_id="scheduler-2", etcd_revision=1, age=1.0),
        LeaderRow(shard=2, epoch=6, holder=uuid4(), instance_id="scheduler-2", etcd_revision=1, age=1.0),
    ]
    response = (await client.get("/leader")).json()
    shards = [(shard["shard"], shard["current_leader"], shard["epoch"]) for shard in response.pop("shards")]
    assert shards == [(0, None, 5), (1, "scheduler-2", 3), (2, "scheduler-1", 7), (3, None, 0)]
    assert response == {"current_leader": None, "is_leader": True, "instance_id": "scheduler-1", "epoch": 5}


async def test_workers_come_from_the_sessions_while_etcd_is_away(client: httpx.AsyncClient, world: Recorder) -> None:
    workers = (await client.get("/workers")).json()
    assert workers["source"] == "etcd"
    assert workers["workers"][0]["id"] == "worker-1"
    world.health = AWAY
    fallen_back = (await client.get("/workers")).json()
    assert fallen_back["source"] == "postgres"
    assert "etcd is away" in fallen_back["note"]
    assert fallen_back["workers"][0]["slots"] == 8
    assert "etcd is away" in (await client.get("/schedulers")).json()["note"]


async def test_queues_show_their_jobs_and_workers(client: httpx.AsyncClient) -> None:
    queues = (await client.get("/queues")).json()["queues"]
    assert queues == [
        {"queue": "default", "pending": 2, "queued": 0, "running": 0, "oldest_pending": None, "workers": 1, "slots": 8},
        {"queue": "idle", "pending": 0, "queued": 0, "running": 0, "oldest_pending": None, "workers": 1, "slots": 8},
    ]


async def test_a_read_that_hangs_is_given_up_in_time() -> None:
    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.Event().wait()  # as a driver that waits for the server to confirm

    with pytest.raises(StoreUnavailable):
        await within(hang(), 0.02)


async def test_a_failed_read_is_not_cached() -> None:
    responses = iter([StoreUnavailable("away"), 7])

    async def read() -> int:
        response = next(responses)
        if isinstance(response, Exception):
            raise response
        return cast(int, response)

    cached = CachedRead(read)
    with pytest.raises(StoreUnavailable):
        await cached.get()
    assert await cached.get() == 7
    assert await cached.get() == 7


async def test_callers_do_not_wait_for_a_repeated_slow_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "SLOW", -1.0)
    monkeypatch.setattr(reads, "PAUSE", 0.0)
    count, go_on, again = 0, asyncio.Event(), asyncio.Event()

    async def read() -> int:
        nonlocal count
        count += 1
        if count > 1:
            again.set()
            await go_on.wait()
        return count

    cached = CachedRead(read, age=0.001, repeat=True)
    assert await cached.get() == 1
    await asyncio.wait_for(again.wait(), 10)
    assert await cached.get() == 1  # while the second read is under way
    go_on.set()
    await wait_until_async(lambda: count > 2)
    assert await cached.get() > 1


async def test_a_slow_read_is_not_repeated_without_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "SLOW", -1.0)
    monkeypatch.setattr(reads, "INTEREST", 0.0)
    count = 0

    async def read() -> int:
        nonlocal count
        count += 1
        return count

    cached = CachedRead(read, age=0.0, repeat=True)
    assert await cached.get() == 1
    await wait_until_async(lambda: len(asyncio.all_tasks()) == 1)
    assert count == 1
