"""Tests of restricted tokens: the fields that they see, and the keys that they share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import psycopg
import pytest

from taskd.domain.job import JobStatus
from taskd.domain.scope import Scope
from taskd.domain.token import Token, make
from taskd.store.lane import Lane
from taskd.store.tokens import PostgresTokens
from tests.integration.api_stack import api_on
from tests.integration.storage import Storage, spec

Caller = Callable[..., Awaitable[httpx.Response]]
SECRET = {"card": "4111 1111"}
#: Fields of a job that existed before, without the scope read.
LITTLE = {"id", "status", "duplicate"}


@pytest.fixture
async def caller(postgres_dsn: str) -> AsyncIterator[Callable[..., Awaitable[Caller]]]:
    """Return a function that makes a token and returns a caller with it."""
    lane = Lane(postgres_dsn, name="test", deadline=5.0)
    tokens = PostgresTokens(lane)

    async def with_token(*scopes: Scope, queues: set[str] | None = None) -> Caller:
        token_id, text, digest = make()
        allowed = frozenset(queues) if queues is not None else None
        await tokens.create(
            Token(id=token_id, name="t", digest=digest, scopes=frozenset(scopes), queues=allowed),
            who="me",
            lifetime=None,
        )

        async def ask(method: str, path: str, json: Any = None, **headers: str) -> httpx.Response:
            sent = {"authorization": f"Bearer {text}"} | {k.replace("_", "-"): v for k, v in headers.items()}
            async with serving() as http:
                return await http.request(method, path, json=json, headers=sent)

        return ask

    @asynccontextmanager
    async def serving() -> AsyncIterator[httpx.AsyncClient]:
        async with api_on(postgres_dsn) as address, httpx.AsyncClient(base_url=address.url) as http:
            yield http

    yield with_token
    await lane.close()


async def test_a_duplicate_shows_a_submitter_without_read_no_job(caller: Any) -> None:
    first, second = await caller(Scope.SUBMIT), await caller(Scope.SUBMIT)
    reader = await caller(Scope.SUBMIT, Scope.READ)
    made = await first("POST", "/jobs", {"payload": SECRET, "dedupe_key": "k", "metadata": {"a": "b"}})
    assert (made.status_code, made.json()["payload"]) == (201, SECRET)  # the payload of its own request
    duplicate = await second("POST", "/jobs", {"payload": 1, "dedupe_key": "k"})
    assert (duplicate.status_code, duplicate.json()) == (
        200,
        {"id": made.json()["id"], "status": "pending", "duplicate": True},
    )
    assert (await reader("POST", "/jobs", {"payload": 1, "dedupe_key": "k"})).json()["payload"] == SECRET


async def test_an_operator_without_read_sees_no_payloads(caller: Any) -> None:
    submitter, operator = await caller(Scope.SUBMIT), await caller(Scope.OPERATE)
    made = (await submitter("POST", "/jobs", {"payload": SECRET})).json()
    cancelled = await operator("POST", f"/jobs/{made['id']}/cancel")
    assert cancelled.json() == {"id": made["id"], "status": "cancelled"}
    retried = await operator("POST", f"/jobs/{made['id']}/retry")
    assert (retried.status_code, set(retried.json())) == (201, {"id", "status"})
    again = await operator("POST", f"/jobs/{made['id']}/retry")
    assert (again.status_code, set(again.json())) == (200, LITTLE)
    assert set((await operator("POST", f"/jobs/{made['id']}/cancel")).json()) == {
        "title",
        "status",
        "detail",
        "job_status",
    }
    changer = await caller(Scope.OPERATE, Scope.SUBMIT)
    plan = {"every": 3600, "job": {"payload": SECRET, "task": "hidden"}}
    for method, path, body in (
        ("PUT", "/schedules/s", plan),
        ("PUT", "/schedules/s", {**plan, "overlap": "skip"}),
        ("POST", "/schedules/s/pause", None),
        ("POST", "/schedules/s/resume", None),
    ):
        response = await changer(method, path, body)
        assert response.status_code in (200, 201)
        assert ("4111" in response.text, "hidden" in response.text) == (False, False), path
        assert response.json()["name"] == "s"
    admin = await caller(Scope.ADMIN)
    await admin("PUT", "/config/history.keep_failed", {"value": 77.125})
    assert "77.125" not in (await operator("PUT", "/config/queue.a.paused", {"value": True})).text


async def test_each_token_has_its_own_idempotency_keys(caller: Any) -> None:
    one, other = await caller(Scope.SUBMIT), await caller(Scope.SUBMIT)
    first = await one("POST", "/jobs", {"payload": 1}, idempotency_key="order-1")
    assert first.status_code == 201
    for body in ({"payload": 1}, {"payload": 2}):
        assert (await one("POST", "/jobs", {"payload": 1}, idempotency_key="order-1")).json()["duplicate"] is True
        unrelated = await other("POST", "/jobs", body, idempotency_key=f"order-{body['payload']}")
        assert unrelated.status_code == 201, body
    assert (await one("POST", "/jobs", {"payload": 9}, idempotency_key="order-1")).status_code == 422
    batch = {"jobs": [{"payload": 1}]}
    assert (await one("POST", "/jobs/batch", batch, idempotency_key="b")).json()["duplicates"] == []
    assert (await other("POST", "/jobs/batch", batch, idempotency_key="b")).json()["duplicates"] == []
    assert len((await other("POST", "/jobs/batch", batch, idempotency_key="b")).json()["duplicates"]) == 1


async def test_a_request_that_an_older_scheduler_stored_is_found(caller: Any, postgres_dsn: str) -> None:
    """An old key belongs to the whole cluster, not to a token, so the request has to be the same."""
    store = Storage(postgres_dsn)
    (old,) = await store.submit(spec('{"n": 1}', dedupe_key="idempotency-key:order-1", task="a"))
    (dedupe,) = await store.submit(spec("1", dedupe_key="k", queue="a"))
    await store.close()
    submitter = await caller(Scope.SUBMIT)
    again = await submitter("POST", "/jobs", {"payload": {"n": 2}, "task": "a"}, idempotency_key="order-1")
    assert again.status_code == 201
    with psycopg.connect(postgres_dsn) as connection:
        connection.execute("DELETE FROM taskd.dedupe_keys WHERE job_id = %s", [again.json()["id"]])
    # The client's JSON has no spaces, so its payload is a different text.
    same = await submitter("POST", "/jobs", {"payload": {"n": 1}, "task": "a"}, idempotency_key="order-1")
    assert same.status_code == 201
    with psycopg.connect(postgres_dsn) as connection:
        connection.execute("DELETE FROM taskd.dedupe_keys WHERE job_id = %s", [same.json()["id"]])
        connection.execute("UPDATE taskd.jobs SET payload = '{\"n\":1}' WHERE id = %s", [old.id])
    duplicate = await submitter("POST", "/jobs", {"payload": {"n": 1}, "task": "a"}, idempotency_key="order-1")
    assert (duplicate.status_code, duplicate.json()["id"]) == (200, old.id)
    narrow = await caller(Scope.SUBMIT, queues={"a", "b"})
    duplicate = await narrow("POST", "/jobs", {"payload": 1, "queue": "a", "dedupe_key": "k"})
    assert (duplicate.status_code, duplicate.json()["id"]) == (200, dedupe.id)
    assert (await narrow("POST", "/jobs", {"payload": 1, "queue": "b", "dedupe_key": "k"})).status_code == 201


async def test_a_token_for_some_queues_neither_uses_nor_detects_keys_of_others(caller: Any, postgres_dsn: str) -> None:
    mails, orders = await caller(Scope.SUBMIT, queues={"mails"}), await caller(Scope.SUBMIT, queues={"orders"})
    everything = await caller(Scope.SUBMIT)
    job = {"payload": 1, "dedupe_key": "order-17"}
    squatting = await mails("POST", "/jobs", {**job, "queue": "mails"})
    assert squatting.status_code == 201
    assert (await mails("POST", "/jobs", {**job, "queue": "mails"})).json()["id"] == squatting.json()["id"]
    assert (await orders("POST", "/jobs", {**job, "queue": "orders"})).status_code == 201
    assert (await everything("POST", "/jobs", {**job, "queue": "orders"})).status_code == 201
    hidden = await everything("POST", "/jobs", {"payload": 1, "dedupe_key": "hidden", "queue": "orders"})
    assert (await mails("POST", "/jobs", {"payload": 1, "dedupe_key": "hidden", "queue": "mails"})).status_code == 201
    batch = {"jobs": [{"payload": 1, "dedupe_key": "hidden", "queue": "mails"}]}
    assert hidden.json()["id"] not in (await mails("POST", "/jobs/batch", batch)).json()["duplicates"]
    with psycopg.connect(postgres_dsn) as connection:
        shown = connection.execute("SELECT DISTINCT dedupe_key FROM taskd.jobs ORDER BY 1").fetchall()
    assert shown == [("hidden",), ("order-17",)]


async def test_pruning_frees_the_keys_of_a_queue(caller: Any, postgres_dsn: str) -> None:
    mails = await caller(Scope.SUBMIT, Scope.OPERATE, queues={"mails"})
    job = {"payload": 1, "dedupe_key": "k", "queue": "mails"}
    made = (await mails("POST", "/jobs", job)).json()
    await mails("POST", f"/jobs/{made['id']}/cancel")
    store = Storage(postgres_dsn)
    await store.history.prune(await store.lead(), JobStatus.CANCELLED, 0.0, 0, 10)
    await store.close()
    with psycopg.connect(postgres_dsn) as connection:
        assert connection.execute("SELECT count(*) FROM taskd.dedupe_keys").fetchone() == (0,)
    assert (await mails("POST", "/jobs", job)).status_code == 201


async def test_a_schedules_name_does_not_disclose_its_queue(caller: Any) -> None:
    allowed = await caller(Scope.SUBMIT, Scope.OPERATE, Scope.READ, queues={"secret-queue"})
    other = await caller(Scope.SUBMIT, Scope.OPERATE, Scope.READ, queues={"images"})
    plan = {"every": 60, "job": {"payload": 1, "queue": "secret-queue"}}
    assert (await allowed("PUT", "/schedules/s", plan)).status_code == 201
    foreign = {"every": 60, "job": {"payload": 1, "queue": "images"}}
    for method, path, body, status in (
        ("PUT", "/schedules/s", foreign, 404),
        ("POST", "/schedules", {"name": "s", **foreign}, 409),
        ("DELETE", "/schedules/s", None, 404),
        ("POST", "/schedules/s/pause", None, 404),
        ("POST", "/schedules/s/resume", None, 404),
        ("GET", "/schedules/s/next", None, 404),
    ):
        refused = await other(method, path, body)
        assert (refused.status_code, "secret" in refused.text) == (status, False), (method, path)
    assert (await allowed("GET", "/schedules/s")).json()["job"]["queue"] == "secret-queue"
