"""Tests of the routes under /config on a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.integration.api_stack import api_on


@pytest.fixture
async def client(postgres_dsn: str) -> AsyncIterator[httpx.AsyncClient]:
    async with api_on(postgres_dsn) as address, httpx.AsyncClient(base_url=address.url) as client:
        yield client


async def test_the_configuration_is_shown_with_the_kinds_of_keys(client: httpx.AsyncClient) -> None:
    shown = (await client.get("/config")).json()
    assert (shown["version"], shown["values"]) == (0, {})
    assert "queue.NAME.paused" in {entry["key"] for entry in shown["keys"]}


async def test_a_key_is_set_unset_and_rolled_back(client: httpx.AsyncClient) -> None:
    made = await client.put("/config/queue.a.weight", json={"value": 3, "who": "me"})
    assert made.status_code == 200
    assert {name: made.json()[name] for name in ("version", "who", "what", "values")} == {
        "version": 1,
        "who": "me",
        "what": "set queue.a.weight = 3",
        "values": {"queue.a.weight": 3},
    }
    assert (await client.delete("/config/queue.a.weight?who=you")).json()["values"] == {}
    assert (await client.post("/config/rollback", json={"version": 1})).json()["values"] == {"queue.a.weight": 3}
    history = (await client.get("/config/history")).json()
    assert [(entry["version"], entry["who"]) for entry in history] == [(3, ""), (2, "you"), (1, "me")]
    assert history[-1] == made.json()


async def test_a_name_may_have_a_slash(client: httpx.AsyncClient) -> None:
    made = await client.put("/config/queue.img%2Fthumbs.paused", json={"value": True})
    assert made.json()["values"] == {"queue.img/thumbs.paused": True}


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("PUT", "/config/queue.a.weight", {"value": 0}, "value"),
        ("PUT", "/config/queue.a.weight", {"value": [1]}, "value"),
        ("PUT", "/config/queue.a.weight", {}, "value"),
        ("PUT", "/config/nothing", {"value": 1}, "value"),
        ("PUT", "/config/log.level", {"value": "INFO\0"}, "body"),
        ("DELETE", "/config/nothing", None, "key"),
        ("DELETE", "/config/queue.a.weight?who=%00", None, "who"),
        ("POST", "/config/rollback", {"version": 5}, "version"),
        ("POST", "/config/rollback", {"version": -1}, "version"),
    ],
)
async def test_an_error_names_its_field(
    client: httpx.AsyncClient, method: str, path: str, body: object, field: str
) -> None:
    response = await client.request(method, path, json=body)
    assert (response.status_code, [e["field"] for e in response.json()["errors"]]) == (422, [field])
    assert (await client.get("/config/history")).json() == []
