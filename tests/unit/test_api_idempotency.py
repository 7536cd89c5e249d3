"""Tests of the header Idempotency-Key: the key of a job, and errors of reused keys."""

from __future__ import annotations

import httpx
import msgspec
import pytest

from tests.unit.api_world import Recorder, a_job


@pytest.mark.parametrize("header", ["abc", '"abc"', " abc "])
async def test_a_key_is_stored_as_a_dedupe_key_with_a_prefix(
    client: httpx.AsyncClient, world: Recorder, header: str
) -> None:
    await client.post("/jobs", json={"payload": 1}, headers={"Idempotency-Key": header})
    assert [s.dedupe_key for s in world.specs] == ["idempotency-key:abc"]


async def test_a_client_cannot_use_the_prefix(client: httpx.AsyncClient, world: Recorder) -> None:
    response = await client.post("/jobs", json={"payload": 1, "dedupe_key": "idempotency-key:abc"})
    assert (response.status_code, response.json()["errors"][0]["field"]) == (422, "dedupe_key")
    assert world.specs == []


async def test_a_key_is_not_shown_as_a_dedupe_key(client: httpx.AsyncClient, world: Recorder) -> None:
    response = await client.post("/jobs", json={"payload": 1}, headers={"Idempotency-Key": "abc"})
    world.found[17] = a_job(17, dedupe_key="idempotency-key:abc")
    assert "dedupe_key" not in response.json()
    assert "dedupe_key" not in (await client.get("/jobs/17")).json()


async def keys_of(client: httpx.AsyncClient, world: Recorder, *jobs: object) -> list[str | None]:
    """Submit a batch with the key abc; return the keys of its jobs."""
    world.specs.clear()
    await client.post("/jobs/batch", json={"jobs": jobs}, headers={"Idempotency-Key": "abc"})
    return [s.dedupe_key for s in world.specs]


async def test_a_batch_has_one_key_for_each_index(client: httpx.AsyncClient, world: Recorder) -> None:
    jobs = [{"payload": 1}, {"payload": 2, "dedupe_key": "own"}, {"payload": 1}]
    first = await keys_of(client, world, *jobs)
    assert len(set(first)) == 3
    assert first[1] == "own"
    assert all(key is not None and len(key) <= 255 for key in first)
    assert await keys_of(client, world, *jobs) == first


async def test_the_key_of_one_batch_matches_no_job_of_another_request(
    client: httpx.AsyncClient, world: Recorder
) -> None:
    """A match would lose the jobs of the other request."""
    batches = [
        await keys_of(client, world, *jobs) for jobs in ([{"payload": 1}], [{"payload": 2}], [{"payload": 1}] * 2)
    ]
    await client.post("/jobs", json={"payload": 1}, headers={"Idempotency-Key": "abc"})
    keys = [key for batch in batches for key in batch] + [world.specs[-1].dedupe_key]
    assert len(set(keys)) == 5


async def test_a_job_keeps_its_own_dedupe_key(client: httpx.AsyncClient, world: Recorder) -> None:
    await client.post("/jobs", json={"payload": 1, "dedupe_key": "own"}, headers={"Idempotency-Key": "abc"})
    assert [s.dedupe_key for s in world.specs] == ["own"]


@pytest.mark.parametrize("header", [b"", b'""', b"a b", b"x" * 201, "ü".encode()])
async def test_an_invalid_key_is_refused(client: httpx.AsyncClient, world: Recorder, header: bytes) -> None:
    response = await client.post("/jobs", json={"payload": 1}, headers={b"Idempotency-Key": header})
    assert (response.status_code, response.json()["errors"][0]["field"]) == (422, "Idempotency-Key")
    assert world.specs == []


@pytest.mark.parametrize(("payload", "status"), [({"a": 1}, 200), ({"a": 2}, 422)])
async def test_a_key_that_was_used_for_another_request_is_refused(
    client: httpx.AsyncClient, world: Recorder, payload: object, status: int
) -> None:
    world.found[17] = a_job(17, payload=msgspec.Raw(b'{"a":1}'), dedupe_key="idempotency-key:abc")
    world.duplicate_of = 17
    body = msgspec.json.encode({"payload": payload})
    headers = {"Idempotency-Key": "abc", "Content-Type": "application/json"}
    response = await client.post("/jobs", content=body, headers=headers)
    assert response.status_code == status
    if status == 422:
        assert "job 17" in response.json()["errors"][0]["message"]


async def test_another_request_with_one_dedupe_key_is_a_duplicate(client: httpx.AsyncClient, world: Recorder) -> None:
    world.found[17] = a_job(17, dedupe_key="own")
    world.duplicate_of = 17
    response = await client.post("/jobs", json={"payload": "other", "dedupe_key": "own"})
    assert (response.status_code, response.json()["duplicate"]) == (200, True)
