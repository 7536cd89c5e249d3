"""Tests of the API on real sockets and a real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from taskd.client import Client, ClientError
from taskd.domain.errors import ConfigurationError, InvalidJob
from taskd.runtime.serve import Address, serving
from tests.integration.api_stack import api_on


@pytest.fixture
async def address(postgres_dsn: str) -> AsyncIterator[Address]:
    async with api_on(postgres_dsn) as address:
        yield address


@pytest.fixture
async def client(address: Address) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://{address}", timeout=10) as client:
        yield client


async def raw(address: Address, request: bytes) -> bytes:
    """Send bytes; return the response up to the end of the connection."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(request)
    response = b""
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionResetError):  # the server closed the connection before all parts were sent
            response = await reader.read()
    writer.close()
    return response


async def test_a_job_comes_back_as_it_was_submitted(client: httpx.AsyncClient) -> None:
    sent = {"payload": {"n": 1.5, "s": "é\\u0000"}, "task": "echo", "priority": 7, "metadata": {"a": 1, "b": None}}
    created = await client.post("/jobs", json=sent)
    assert created.status_code == 201
    job = (await client.get(created.headers["location"])).json()
    (stage,) = job.pop("timeline")
    assert (stage["state"], stage["since"]) == ("pending", job["created_at"])
    assert job == {**created.json(), "attempts": []}
    assert {name: job[name] for name in sent} == sent
    assert job["created_at"].endswith("Z")


async def test_extreme_but_legal_values_are_stored(client: httpx.AsyncClient) -> None:
    for fields in (
        {"schedule_at": "1970-01-01T00:00:00Z"},
        {"schedule_at": "9998-12-31T23:59:59.999999+00:00"},
        {"delay": 315_360_000},
        {"timeout": 5e-324},
        {"retry_backoff": {"initial": 0, "factor": 1000, "max": 0}},
        {"dedupe_key": "\U0001f600" * 255},
        {"metadata": {"k" * 255: -(2**63)}},
        {"payload": "\U0001f600", "max_retries": 100},
    ):
        response = await client.post("/jobs", json={"payload": None, **fields})
        assert response.status_code == 201, (fields, response.text)
        assert (await client.get(f"/jobs/{response.json()['id']}")).status_code == 200


async def test_two_hundred_submits_of_one_key_make_one_job(client: httpx.AsyncClient) -> None:
    async def submit() -> httpx.Response:
        while (response := await client.post("/jobs", json={"payload": 1, "dedupe_key": "once"})).status_code == 503:
            assert "retry-after" in response.headers  # a busy machine may take longer than a submit may
        return response

    responses = await asyncio.gather(*(submit() for _ in range(200)))
    assert sorted(a.status_code for a in responses) == [200] * 199 + [201]
    assert len({a.json()["id"] for a in responses}) == 1
    assert sum(a.json().get("duplicate", False) for a in responses) == 199


async def test_a_batch_is_stored_in_order_and_listed_newest_first(client: httpx.AsyncClient) -> None:
    lines = b"\n".join(b'{"payload": %d, "queue": "q"}' % i for i in range(250))
    created = await client.post("/jobs/batch", content=lines, headers={"content-type": "application/x-ndjson"})
    ids = created.json()["ids"]
    assert ids == sorted(ids)
    seen: list[int] = []
    path = "/jobs?queue=q"
    while path:
        page = await client.get(path)
        seen += [job["id"] for job in page.json()]
        path = page.links["next"]["url"] if "next" in page.links else ""
    assert seen == ids[::-1]


async def test_ids_and_filters_at_the_edge_are_no_server_errors(client: httpx.AsyncClient) -> None:
    assert (await client.get("/jobs/9223372036854775807")).status_code == 404
    assert (await client.get("/jobs?cursor=9223372036854775807&limit=1000")).status_code == 200
    assert (await client.get("/jobs?status=completed&task=x&queue=y")).json() == []


async def test_the_cluster_is_shown(client: httpx.AsyncClient) -> None:
    await client.post("/jobs", json={"payload": 1})
    assert (await client.get("/metrics")).json()["pending_jobs"] == 1
    assert (await client.get("/queues")).json()["queues"][0]["pending"] == 1
    assert (await client.get("/leader")).json()["current_leader"] is None
    head = await client.head("/health")
    assert (head.status_code, head.content) == (200, b"")


async def test_a_body_over_the_limit_is_refused_whether_it_says_so_or_not(
    address: Address, client: httpx.AsyncClient
) -> None:
    large = b'{"payload": "' + b"x" * 2_000_000 + b'"}'
    headers = {"content-type": "application/json"}
    assert (await client.post("/jobs", content=large, headers=headers)).status_code == 413

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(large), 100_000):
            yield large[start : start + 100_000]

    assert (await client.post("/jobs", content=chunks(), headers=headers)).status_code == 413
    assert (await client.get("/health")).status_code == 200


async def test_malformed_http_gets_a_problem_document(address: Address) -> None:
    response = await raw(address, b"\x16\x03\x01nonsense\r\n\r\n")
    assert response.startswith(b"HTTP/1.1 400 ")
    assert json.loads(response.partition(b"\r\n\r\n")[2])["status"] == 400


async def test_a_head_without_end_is_cut_off(address: Address) -> None:
    response = await raw(address, b"GET /health HTTP/1.1\r\nX: " + b"x" * 700_000)
    assert response.startswith(b"HTTP/1.1 400 ") or response == b""


@pytest.mark.parametrize("target", [b"/\xff", b"/jobs/%ff", b"//", b"/jobs?%zz", b"*", b"/jobs/1;x", b"http://h/jobs"])
async def test_strange_targets_are_no_server_errors(address: Address, target: bytes) -> None:
    response = await raw(address, b"GET " + target + b" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert response[9:10] in (b"2", b"4"), response


async def test_a_job_is_cancelled_once(client: httpx.AsyncClient) -> None:
    job_id = (await client.post("/jobs", json={"payload": 1})).json()["id"]
    responses = await asyncio.gather(*(client.post(f"/jobs/{job_id}/cancel") for _ in range(8)))
    assert sorted(a.status_code for a in responses) == [200] + [409] * 7
    assert {a.json()["job_status"] for a in responses if a.status_code == 409} == {"cancelled"}
    assert (await client.get("/metrics")).json()["cancelled_jobs"] == 1


async def test_a_submit_without_postgresql_is_a_503_in_time() -> None:
    async with api_on("postgresql://127.0.0.1:1/none") as address, httpx.AsyncClient(timeout=10) as client:
        began = time.monotonic()
        response = await client.post(f"http://{address}/jobs", json={"payload": 1})
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert (await client.get(f"http://{address}/jobs/1")).status_code == 503
        assert time.monotonic() - began < 4


async def test_a_wait_ends_with_the_job_and_with_the_server(postgres_dsn: str) -> None:
    async with httpx.AsyncClient(timeout=30) as client:
        async with api_on(postgres_dsn) as address:
            url = f"http://{address}/jobs"
            ids = [(await client.post(url, json={"payload": 1})).json()["id"] for _ in range(2)]
            waits = [asyncio.create_task(client.get(f"{url}/{i}?wait=60")) for i in ids]
            cancelled = await client.post(f"{url}/{ids[0]}/cancel")
            assert cancelled.status_code == 200
            assert {**(await waits[0]).json(), "timeline": None} == {**cancelled.json(), "timeline": None}
            assert cancelled.json()["status"] == "cancelled"
            began = time.monotonic()
        assert (await waits[1]).json()["status"] == "pending"
        assert time.monotonic() - began < 3


async def test_a_taken_port_is_one_line_with_advice() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"{port} is taken by another process: .* --http-addr"):
            async with serving(_nothing, f"127.0.0.1:{port}", "--http-addr"):
                pass
        with pytest.raises(ConfigurationError, match="taken by another process"):
            async with serving(_nothing, f":{port}", "--http-addr"):
                pass


async def _nothing(scope: object, receive: object, send: object) -> None:
    raise AssertionError


async def test_an_empty_host_listens_on_every_interface() -> None:
    async with serving(_nothing, ":0", "--http-addr") as address:
        assert address.url == f"http://localhost:{address.port}"
        _, writer = await asyncio.open_connection("127.0.0.1", address.port)
        writer.close()


async def test_the_client_submits_reads_and_waits(address: Address, postgres_dsn: str) -> None:
    def use() -> None:
        with Client(f"http://127.0.0.1:1, {address}", timeout=5) as client:
            job = client.submit({"payload": [1]})
            assert client.job(job["id"])["payload"] == [1]
            assert client.wait(job["id"], 0.1)["status"] == "pending"
            assert client.health()["status"] == "healthy"
            assert len(client.submit_batch([{"payload": 1}, {"payload": 2}])) == 2
            with pytest.raises(InvalidJob, match="priority: must be a whole number from 0 to 100, not "):
                client.submit({"payload": 1, "priority": 101})
            with pytest.raises(ClientError, match="no job 999999") as missing:
                client.job(999_999)
            assert missing.value.status == 404
            for _ in range(2):  # the answer to the first may have been lost
                assert client.cancel(job["id"])["status"] == "cancelled"
            with pytest.raises(ClientError, match="no job 999999"):
                client.cancel(999_999)

    await asyncio.to_thread(use)
