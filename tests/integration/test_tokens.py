"""Tests of tokens from the command line, through PostgreSQL, to a scheduler."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import psycopg
import pytest

from taskd.cli.main import run
from taskd.client import Client, ClientError
from tests.integration.api_stack import api_on
from tests.servers import wait_until_async


@pytest.fixture
def taskd(postgres_dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that runs `taskd token` and returns its exit status, stdout and stderr."""
    monkeypatch.setenv("POSTGRES_DSN", postgres_dsn)

    def call(*arguments: str) -> tuple[int, str, str]:
        status = run(["token", *arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return call


async def status_of(http: httpx.AsyncClient, path: str, token: str | None) -> int:
    headers = {"authorization": f"Bearer {token}"} if token is not None else {}
    return (await http.get(path, headers=headers)).status_code


async def test_a_token_lives_from_create_to_revoke(taskd: Any, postgres_dsn: str) -> None:
    async with api_on(postgres_dsn) as address, httpx.AsyncClient(base_url=address.url) as http:
        assert await status_of(http, "/jobs", None) == 200
        status, out, err = await _off(taskd, "create", "webshop", "--scope", "read", "--queue", "orders")
        token = out.strip()
        assert (status, token.startswith("taskd_"), "not shown again" in err) == (0, True, True)

        async def shut() -> bool:
            return await status_of(http, "/jobs", None) == 401

        await wait_until_async(shut)
        assert await status_of(http, "/jobs", token) == 200
        assert await status_of(http, "/jobs?queue=other", token) == 403
        (listed,) = json.loads((await _off(taskd, "list", "--json"))[1])
        assert (listed["name"], listed["scopes"], listed["queues"], listed["holds"]) == (
            "webshop",
            ["read"],
            ["orders"],
            True,
        )
        assert "digest" not in listed
        status, out, _ = await _off(taskd, "revoke", token)  # the token itself may name what to revoke
        assert (status, out) == (0, f"revoked {listed['id']} (webshop)\n")

        async def revoked() -> bool:
            return await status_of(http, "/jobs", token) == 401

        await wait_until_async(revoked)
        assert await status_of(http, "/jobs", None) == 401  # without the last token, the cluster stays closed
        status, _, err = await _off(taskd, "revoke", listed["id"])
        assert (status, "valid token" in err) == (1, True)


async def test_a_token_expires_in_time(taskd: Any, postgres_dsn: str) -> None:
    _, out, _ = await _off(taskd, "create", "brief", "--scope", "admin", "--expires", "1h", "--json")
    token = json.loads(out)
    with psycopg.connect(postgres_dsn) as connection:
        connection.execute("UPDATE taskd.tokens SET expires_at = clock_timestamp() WHERE id = %s", [token["id"]])
    async with api_on(postgres_dsn) as address, httpx.AsyncClient(base_url=address.url) as http:
        assert await status_of(http, "/jobs", token["token"]) == 401
    table = (await _off(taskd, "list"))[1]
    assert ("brief" in table, " no " in table) == (True, True)


async def test_the_client_sends_its_token_and_reports_a_refusal(taskd: Any, postgres_dsn: str) -> None:
    token = (await _off(taskd, "create", "reader", "--scope", "read"))[1].strip()

    def use(url: str) -> None:
        with Client(url, token=token) as client:
            assert client.get("/jobs") == []
            with pytest.raises(ClientError, match="the token 'reader' lacks the scope submit"):
                client.submit({"payload": 1})
        with Client(url) as client, pytest.raises(ClientError, match="TASKD_TOKEN"):
            client.get("/jobs")

    async with api_on(postgres_dsn) as address:
        await asyncio.to_thread(use, address.url)


async def test_the_client_retries_after_a_429(taskd: Any, postgres_dsn: str) -> None:
    token = (await _off(taskd, "create", "hasty", "--scope", "read", "--rate", "2"))[1].strip()

    def use(url: str) -> None:
        with Client(url, token=token) as client:
            assert [client.get("/jobs") for _ in range(4)] == [[]] * 4
        with Client(url, token=token, patience=0.0) as client, pytest.raises(ClientError, match="2 requests a second"):
            [client.get("/jobs") for _ in range(10)]

    async with api_on(postgres_dsn) as address:
        await asyncio.to_thread(use, address.url)


async def test_a_token_with_unknown_scopes_does_not_affect_others(taskd: Any, postgres_dsn: str) -> None:
    good = (await _off(taskd, "create", "good", "--scope", "read"))[1].strip()
    other = (await _off(taskd, "create", "other", "--scope", "read"))[1].strip()
    with psycopg.connect(postgres_dsn) as connection:
        connection.execute("UPDATE taskd.tokens SET scopes = '{dance}' WHERE name = 'other'")
    async with api_on(postgres_dsn) as address, httpx.AsyncClient(base_url=address.url) as http:
        assert await status_of(http, "/jobs", good) == 200
        assert await status_of(http, "/jobs", other) == 401


async def test_nothing_of_a_secret_is_in_the_database(taskd: Any, postgres_dsn: str) -> None:
    secret = (await _off(taskd, "create", "x", "--scope", "read"))[1].strip().split("_", 2)[2]
    with psycopg.connect(postgres_dsn) as connection:
        row = connection.execute("SELECT to_jsonb(t)::text, digest FROM taskd.tokens t").fetchone()
    assert row is not None
    assert secret not in row[0]
    assert secret.encode() not in row[1]


def test_invalid_arguments_are_refused(taskd: Any) -> None:
    for arguments in (
        ("create", "x"),
        ("create", "x", "--scope", "root"),
        ("create", "", "--scope", "read"),
        ("create", "a\nb", "--scope", "read"),
        ("create", "x", "--scope", "read", "--rate", "0"),
        ("create", "x", "--scope", "read", "--rate", "inf"),
        ("create", "x", "--scope", "read", "--expires", "soon"),
    ):
        status, out, err = taskd(*arguments)
        assert (status, out, err.count("\n")) == (2, "", 1), (arguments, err)


async def _off(taskd: Any, *arguments: str) -> tuple[int, str, str]:
    """Run the command in a thread, since it has an event loop of its own."""
    return await asyncio.to_thread(taskd, *arguments)
