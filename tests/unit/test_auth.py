"""Tests of authentication: every route and scope, restrictions to queues, rates, and tokens while PostgreSQL is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from taskd.api import auth
from taskd.api.auth import TokenBucket
from taskd.domain.errors import StoreUnavailable
from taskd.domain.job import JobStatus
from taskd.domain.scope import Scope
from taskd.domain.token import Keyring, Token, make, split
from taskd.settings import HttpSettings
from tests.servers import wait_until_async
from tests.unit.api_world import Recorder, a_job, asking

ROUTES = [
    (path, method, scope) for path, methods in Recorder().api().routes.items() for method, scope in methods.items()
]
REFUSALS = (401, 403, 429)


class World(Recorder):
    """A cluster that has tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.ring = Keyring(closed=True, tokens={})

    def token(self, *scopes: Scope, queues: Collection[str] | None = None, rate: float | None = None) -> dict[str, str]:
        """Make a token; return its header."""
        token_id, text, digest = make()
        self.ring.tokens[token_id] = Token(
            id=token_id,
            name="robot",
            digest=digest,
            scopes=frozenset(scopes),
            queues=frozenset(queues) if queues is not None else None,
            rate=rate,
        )
        return {"authorization": f"Bearer {text}"}

    def asking(
        self, headers: dict[str, str], settings: HttpSettings | None = None
    ) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        return asking(self, settings or HttpSettings(), headers)


@pytest.fixture
def world() -> World:
    return World()


def place(path: str) -> str:
    return path.replace("{id}", "17").replace("{name}", "start.js").replace("{key}", "queue.q.paused")


@pytest.mark.parametrize(("path", "method", "scope"), ROUTES)
async def test_a_route_serves_callers_with_its_scope_and_no_others(
    world: World, path: str, method: str, scope: Scope | None
) -> None:
    for granted in Scope:
        async with world.asking(world.token(granted)) as client:
            status = (await client.request(method, place(path))).status_code
        assert (status in REFUSALS) == (scope is not None and granted not in (scope, Scope.ADMIN)), (granted, status)
    async with world.asking({}) as client:
        response = await client.request(method, place(path))
    assert (response.status_code == 401) == (scope is not None)
    if scope is not None and method != "HEAD":
        assert response.headers["www-authenticate"] == "Bearer"
        assert "TASKD_TOKEN" in response.json()["detail"]


async def test_malformed_and_wrong_tokens_are_refused(world: World) -> None:
    right = world.token(Scope.READ)["authorization"].removeprefix("Bearer ")
    token_id, secret = split(right) or ("", "")
    for text in (
        f"Bearer {right}x",
        f"Bearer {right[:-1]}",
        f"Bearer taskd_{token_id}_",
        f"Bearer taskd_000000000000_{secret}",
        f"Bearer {secret}",
        f"Basic {right}",
        right,
        "Bearer",
        "Bearer \xff\xfe",
        "",
    ):
        async with world.asking({}) as client:
            response = await client.get("/jobs", headers=[(b"authorization", text.encode("latin-1"))])
        assert response.status_code == 401, text
        assert secret not in response.text
    async with world.asking({}) as client:
        for text in (f"Bearer {right}", f"bearer  {right}"):
            assert (await client.get("/jobs", headers={"authorization": text})).status_code == 200


async def test_without_tokens_a_scheduler_is_open_or_closed(world: World) -> None:
    world.ring = Keyring(closed=False, tokens={})
    async with world.asking({}) as client:
        assert (await client.get("/jobs")).status_code == 200
    world.allow_anonymous = False
    async with world.asking({}) as client:
        refused = await client.get("/jobs")
        assert (refused.status_code, "taskd token create" in refused.text) == (503, True)
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/alive")).status_code == 200


async def test_a_revoked_token_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "FRESH", 0.0)
    async with world.asking(world.token(Scope.READ)) as client:
        assert (await client.get("/jobs")).status_code == 200
        world.ring = Keyring(closed=True, tokens={})
        assert (await client.get("/jobs")).status_code == 401


async def test_known_tokens_stay_valid_while_postgresql_is_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "FRESH", 0.0)
    async with world.asking(world.token(Scope.READ)) as client:
        assert (await client.get("/workers")).status_code == 200
        world.no_keyring = StoreUnavailable("away")
        assert (await client.get("/workers")).status_code == 200
    async with world.asking(world.token(Scope.READ)) as client:  # a scheduler that started meanwhile
        assert (await client.get("/workers")).status_code == 503


async def test_an_unexpected_error_of_a_token_read_is_logged(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "FRESH", 0.0)
    async with world.asking(world.token(Scope.READ)) as client:
        assert (await client.get("/jobs")).status_code == 200
        world.no_keyring = ValueError("a bug")
        with capture_logs() as lines:
            assert (await client.get("/jobs")).status_code == 200
    assert [line["event"] for line in lines] == ["cannot read the API tokens: those that were read last stay valid"]


async def test_tokens_that_were_read_long_ago_are_read_again_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    async with world.asking(world.token(Scope.READ)) as client:
        assert (await client.get("/jobs")).status_code == 200
        world.ring, now = Keyring(closed=True, tokens={}), now + 3600
        responses = await asyncio.gather(*(client.get("/jobs") for _ in range(5)))
    assert {response.status_code for response in responses} == {401}


async def test_a_slow_read_of_tokens_counts_when_it_is_done(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "FRESH", 0.0)
    monkeypatch.setattr(auth, "PATIENCE", 0.01)
    gate = asyncio.Event()
    async with world.asking(world.token(Scope.READ)) as client:
        assert (await client.get("/jobs")).status_code == 200
        world.ring, world.gate = Keyring(closed=True, tokens={}), gate
        assert (await client.get("/jobs")).status_code == 200
        gate.set()
        await wait_until_async(lambda: _status(client, 401))


async def _status(client: httpx.AsyncClient, wanted: int) -> bool:
    return (await client.get("/jobs")).status_code == wanted


# ------------------------------------------------------------ queues


async def test_a_token_for_a_queue_submits_there_only(world: World) -> None:
    async with world.asking(world.token(Scope.SUBMIT, queues=["a", "b"])) as client:
        assert (await client.post("/jobs", json={"payload": 1, "queue": "a"})).status_code == 201
        assert (await client.post("/jobs", json={"payload": 1, "queue": "c"})).status_code == 403
        assert (await client.post("/jobs", json={"payload": 1})).status_code == 403
        mixed = {"jobs": [{"payload": 1, "queue": "a"}, {"payload": 1, "queue": "c"}]}
        assert (await client.post("/jobs/batch", json=mixed)).status_code == 403
    assert [spec.queue for spec in world.specs] == ["a"]


async def test_jobs_of_other_queues_are_hidden_from_a_token_for_a_queue(world: World) -> None:
    world.found = {17: a_job(17, JobStatus.RUNNING, queue="a"), 18: a_job(18, JobStatus.RUNNING, queue="c")}
    world.found |= {19: a_job(19, JobStatus.FAILED, queue="c")}
    async with world.asking(world.token(Scope.READ, Scope.OPERATE, queues=["a"])) as client:
        assert (await client.get("/jobs/17")).status_code == 200
        for method, path in (("GET", "/jobs/18"), ("POST", "/jobs/18/cancel"), ("POST", "/jobs/19/retry")):
            hidden = await client.request(method, path)
            assert (hidden.status_code, hidden.json()["detail"]) == (404, f"there is no job {path.split('/')[2]}")
        assert (await client.post("/jobs/17/cancel")).status_code == 200
    assert (world.cancels, world.retries) == ([[17]], [])


async def test_a_duplicate_in_another_queue_is_not_shown(world: World) -> None:
    world.found, world.duplicate_of = {17: a_job(17, queue="c")}, 17
    async with world.asking(world.token(Scope.SUBMIT, queues=["a"])) as client:
        assert (await client.post("/jobs", json={"payload": 1, "queue": "a", "dedupe_key": "k"})).status_code == 403


@pytest.mark.parametrize("path", ["/jobs", "/history"])
async def test_lists_are_of_the_tokens_queues(world: World, path: str) -> None:
    async with world.asking(world.token(Scope.READ, queues=["a"])) as client:
        assert (await client.get(path)).status_code == 200
        assert (await client.get(path, params={"queue": "c"})).status_code == 403
    async with world.asking(world.token(Scope.READ, queues=["a", "b"])) as client:
        assert (await client.get(path, params={"queue": "b"})).status_code == 200
        which = await client.get(path)
        assert (which.status_code, "a, b" in which.text) == (422, True)
    assert [w.queue for w in world.wanted] + [w.queue for w in world.ends] == ["a", "b"]


@pytest.mark.parametrize("path", ["/jobs/cancel", "/jobs/retry"])
async def test_changes_by_filter_are_of_the_tokens_queues(world: World, path: str) -> None:
    async with world.asking(world.token(Scope.OPERATE, queues=["a"])) as client:
        assert (await client.post(path, json={})).status_code == 200
        assert (await client.post(path, json={"queue": "c"})).status_code == 403
    assert [wanted.queue for wanted in world.wanted] == ["a"]


async def test_routes_that_concern_every_queue_refuse_a_token_for_one(world: World) -> None:
    async with world.asking(world.token(Scope.ADMIN, queues=["default"])) as client:
        assert (await client.get("/metrics")).status_code == 403
        assert [q["queue"] for q in (await client.get("/queues")).json()["queues"]] == ["default"]
        assert (await client.post("/config/rollback", json={"version": 0})).status_code == 403
        for key in ("queue.c.paused", "queue.default.paused.x", "worker.w.quiet", "log.level"):
            assert (await client.put(f"/config/{key}", json={"value": True})).status_code == 403, key


async def test_the_scope_operate_does_not_include_admin(world: World) -> None:
    async with world.asking(world.token(Scope.OPERATE)) as client:
        for key in ("log.level", "history.keep_failed"):
            assert (await client.put(f"/config/{key}", json={"value": 1})).status_code == 403, key
            assert (await client.delete(f"/config/{key}")).status_code == 403, key


# ------------------------------------------------------------ rates and records


async def test_a_token_beyond_its_rate_gets_a_429_with_retry_after(world: World) -> None:
    hasty, other = world.token(Scope.READ, rate=0.25), world.token(Scope.READ)
    async with world.asking({}) as client:
        assert (await client.get("/jobs", headers=hasty)).status_code == 200
        refused = await client.get("/jobs", headers=hasty)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "4")
        for _ in range(5):
            assert (await client.get("/jobs", headers=other)).status_code == 200


async def test_the_setting_limits_tokens_without_a_rate(world: World) -> None:
    headers = world.token(Scope.READ)
    async with world.asking(headers, HttpSettings(rate_limit=2.0)) as client:
        statuses = [(await client.get("/jobs")).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]


def test_a_bucket_fills_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    bucket = TokenBucket(2.0)
    assert [bucket.take() for _ in range(3)] == [0, 0, 0.5]
    now += 0.5
    assert [bucket.take() for _ in range(2)] == [0, 0.5]
    now += 3600
    assert [bucket.take() for _ in range(3)] == [0, 0, 0.5]


async def test_a_change_with_an_unknown_outcome_leaves_an_audit_line(world: World) -> None:
    world.found = {17: a_job(17)}
    world.lost_answer = StoreUnavailable("away", outcome_unknown=True)
    with capture_logs() as lines:
        async with world.asking(world.token(Scope.OPERATE)) as client:
            assert (await client.post("/jobs/17/cancel")).status_code == 503
            world.lost_answer = None
            await client.post("/jobs/cancel", json={"queue": "none"})
    assert [(line["request"], line["about"], line["status"]) for line in lines] == [
        ("POST /jobs/17/cancel", None, 503),
        ("POST /jobs/cancel", '{"queue":"none"}', 200),
    ]


async def test_an_audit_line_names_the_token_without_its_secret(world: World) -> None:
    world.found = {17: a_job(17)}
    headers = world.token(Scope.OPERATE, Scope.SUBMIT)
    with capture_logs() as lines:
        async with world.asking(headers) as client:
            await client.post("/jobs/17/cancel")
            await client.post("/jobs/17/cancel")  # too late: nothing was changed
            await client.post("/jobs", json={"payload": 1})
    assert [(line["event"], line["token"], line["request"], line["status"]) for line in lines] == [
        ("audit", "robot", "POST /jobs/17/cancel", 200)
    ]
    assert headers["authorization"].split("_", 2)[2] not in str(lines)


def test_a_secret_is_not_kept(world: World) -> None:
    text = world.token(Scope.READ)["authorization"]
    (token,) = world.ring.tokens.values()
    secret: Any = split(text.removeprefix("Bearer "))
    assert token.proves(secret[1])
    assert secret[1] not in repr(token)
