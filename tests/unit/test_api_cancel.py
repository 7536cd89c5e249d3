"""Tests of POST /jobs/{id}/cancel."""

from __future__ import annotations

import httpx
import pytest

from taskd.domain.errors import StoreUnavailable
from taskd.domain.job import JobStatus
from tests.unit.api_world import Recorder, a_job

LIVE = [JobStatus.PENDING, JobStatus.QUEUED, JobStatus.RUNNING]
FINAL = [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED]


@pytest.mark.parametrize("status", LIVE)
async def test_a_live_job_is_cancelled_and_shown_whole(
    client: httpx.AsyncClient, world: Recorder, status: JobStatus
) -> None:
    world.found[17] = a_job(17, status)
    response = await client.post("/jobs/17/cancel")
    assert response.status_code == 200
    assert world.cancels == [[17]]
    shown = (await client.get("/jobs/17")).json()
    del shown["timeline"]  # only GET has it
    assert response.json() == shown
    assert response.json()["status"] == "cancelled"


@pytest.mark.parametrize("status", FINAL)
async def test_a_final_job_gets_a_409_with_its_status(
    client: httpx.AsyncClient, world: Recorder, status: JobStatus
) -> None:
    world.found[17] = a_job(17, status)
    response = await client.post("/jobs/17/cancel")
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json() == {
        "title": "Conflict",
        "status": 409,
        "detail": f"job 17 is {status}: it is too late to cancel it",
        "job_status": str(status),
    }
    assert world.cancels == []


async def test_a_job_that_ends_as_it_is_being_cancelled_gets_a_409(client: httpx.AsyncClient, world: Recorder) -> None:
    world.found[17] = a_job(17, JobStatus.RUNNING)
    world.ends_as = JobStatus.COMPLETED
    response = await client.post("/jobs/17/cancel")
    assert (response.status_code, response.json()["job_status"]) == (409, "completed")


async def test_a_job_that_another_client_cancels_meanwhile_gets_a_409(
    client: httpx.AsyncClient, world: Recorder
) -> None:
    world.found[17] = a_job(17, JobStatus.PENDING)
    world.ends_as = JobStatus.CANCELLED
    response = await client.post("/jobs/17/cancel")
    assert (response.status_code, response.json()["job_status"]) == (409, "cancelled")


@pytest.mark.parametrize("text", ["18", "0", "x", "9223372036854775808"])
async def test_an_unknown_job_gets_a_404(client: httpx.AsyncClient, world: Recorder, text: str) -> None:
    response = await client.post(f"/jobs/{text}/cancel")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert world.cancels == []


async def test_only_post_cancels_and_it_takes_no_parameters(client: httpx.AsyncClient, world: Recorder) -> None:
    world.found[17] = a_job(17)
    response = await client.get("/jobs/17/cancel")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert (await client.post("/jobs/17/cancel?force=1")).status_code == 422
    assert world.cancels == []


async def test_without_postgresql_it_is_a_503(client: httpx.AsyncClient, world: Recorder) -> None:
    world.failure = StoreUnavailable("PostgreSQL is away")
    response = await client.post("/jobs/17/cancel")
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
