"""Tests of POST /jobs/{id}/retry, and of POST /jobs/cancel and /jobs/retry by filter."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from taskd.domain.errors import StoreUnavailable
from taskd.domain.job import JobStatus
from tests.unit.api_world import Recorder, a_job

RETRIABLE = [JobStatus.FAILED, JobStatus.CANCELLED]
OTHERS = [status for status in JobStatus if status not in RETRIABLE]


@pytest.mark.parametrize("status", RETRIABLE)
async def test_a_job_that_did_not_complete_becomes_a_new_one(
    client: httpx.AsyncClient, world: Recorder, status: JobStatus
) -> None:
    world.found[17] = a_job(17, status)
    response = await client.post("/jobs/17/retry")
    assert (response.status_code, response.headers["location"]) == (201, "/jobs/18")
    shown = (await client.get("/jobs/18")).json()
    del shown["timeline"]  # only GET has it
    assert response.json() == shown
    assert (response.json()["parent_id"], response.json()["status"]) == (17, "pending")
    assert (await client.get("/jobs/17")).json()["retried_as"] == 18


async def test_a_second_retry_makes_no_second_job(client: httpx.AsyncClient, world: Recorder) -> None:
    world.found[17] = a_job(17, JobStatus.FAILED)
    first = await client.post("/jobs/17/retry")
    second = await client.post("/jobs/17/retry")
    assert (second.status_code, second.headers["location"]) == (200, "/jobs/18")
    assert second.json() == {**first.json(), "duplicate": True}


async def test_a_new_job_that_was_pruned_is_still_shown(client: httpx.AsyncClient, world: Recorder) -> None:
    world.found[17] = a_job(17, JobStatus.FAILED, retried_as=18)
    response = await client.post("/jobs/17/retry")
    assert (response.status_code, response.json()) == (200, {"id": 18, "duplicate": True})


@pytest.mark.parametrize("status", OTHERS)
async def test_any_other_job_gets_a_409_with_its_status(
    client: httpx.AsyncClient, world: Recorder, status: JobStatus
) -> None:
    world.found[17] = a_job(17, status)
    response = await client.post("/jobs/17/retry")
    assert (response.status_code, response.json()["job_status"]) == (409, str(status))
    assert response.json()["detail"] == f"job 17 is {status}: only a job that failed or was cancelled can be retried"


@pytest.mark.parametrize("text", ["18", "0", "x", "9223372036854775808"])
async def test_an_unknown_job_gets_a_404(client: httpx.AsyncClient, world: Recorder, text: str) -> None:
    assert (await client.post(f"/jobs/{text}/retry")).status_code == 404
    assert world.found == {}


async def test_without_postgresql_it_is_a_503(client: httpx.AsyncClient, world: Recorder) -> None:
    world.failure = StoreUnavailable("PostgreSQL is away")
    response = await client.post("/jobs/17/retry")
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")


async def test_jobs_are_cancelled_page_by_page(client: httpx.AsyncClient, world: Recorder) -> None:
    world.found = {i: a_job(i) for i in range(1, 6)}
    seen, body = [], {"queue": "default", "limit": 2}
    while True:
        page = (await client.post("/jobs/cancel", json=body)).json()
        seen.append((page["matched"], page["ids"]))
        if page["cursor"] is None:
            break
        body = {**body, "cursor": page["cursor"]}
    assert seen == [(2, [4, 5]), (2, [2, 3]), (1, [1])]
    assert world.cancels == [[4, 5], [2, 3], [1]]
    assert {j.status for j in world.found.values()} == {JobStatus.CANCELLED}


async def test_a_dry_run_changes_nothing(client: httpx.AsyncClient, world: Recorder) -> None:
    world.found = {1: a_job(1), 2: a_job(2, JobStatus.FAILED)}
    response = await client.post("/jobs/cancel", json={"dry_run": True})
    assert response.json() == {"matched": 1, "ids": [1], "cursor": None}
    response = await client.post("/jobs/retry", json={"dry_run": True})
    assert response.json() == {"matched": 1, "ids": [2], "cursor": None}
    assert (world.cancels, world.retries) == ([], [])


async def test_failed_jobs_are_retried_and_their_new_ids_returned(client: httpx.AsyncClient, world: Recorder) -> None:
    world.found = {1: a_job(1, JobStatus.FAILED), 2: a_job(2, JobStatus.FAILED), 3: a_job(3, JobStatus.CANCELLED)}
    response = await client.post("/jobs/retry", json={})
    assert response.json() == {"matched": 2, "ids": [4, 5], "cursor": None}
    assert (await client.post("/jobs/retry", json={})).json() == {"matched": 0, "ids": [], "cursor": None}
    assert world.wanted[0].status == JobStatus.FAILED


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("cancel", {"status": "completed"}, "status"),
        ("retry", {"status": "running"}, "status"),
        ("retry", {"statuss": "failed"}, "statuss"),
        ("cancel", {"queue": "no good"}, "queue"),
        ("cancel", {"limit": 1001}, "limit"),
        ("cancel", {"cursor": 0}, "cursor"),
        ("cancel", {"dry_run": 1}, "dry_run"),
    ],
)
async def test_a_bad_filter_names_its_field(
    client: httpx.AsyncClient, world: Recorder, path: str, body: dict[str, Any], field: str
) -> None:
    response = await client.post(f"/jobs/{path}", json=body)
    assert (response.status_code, [e["field"] for e in response.json()["errors"]]) == (422, [field])
    assert world.wanted == []


async def test_an_unknown_field_is_refused_with_the_known_ones(client: httpx.AsyncClient) -> None:
    response = await client.post("/jobs/retry", json={"all": True})
    message, _, fields = response.json()["errors"][0]["message"].partition("; the fields are ")
    assert message == "is not a field"
    assert set(fields.split(", ")) == {"status", "queue", "task", "cursor", "limit", "dry_run"}


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"x"'])
async def test_an_invalid_filter_is_refused(client: httpx.AsyncClient, world: Recorder, body: bytes) -> None:
    response = await client.post("/jobs/cancel", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 422)
    assert world.cancels == []
