"""Tests of schedules through the HTTP API and the command line."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from taskd.cli.main import run
from taskd.client import Client
from taskd.domain.scope import Scope
from taskd.domain.token import Token, make
from taskd.store.lane import Lane
from taskd.store.tokens import PostgresTokens
from tests.integration.api_stack import api_on
from tests.integration.storage import Storage

JOB = {"task": "report", "queue": "reports", "payload": {"n": 1}}
PLAN = {"cron": "30 2 * * *", "tz": "Europe/Berlin", "job": JOB}


@pytest.fixture
async def http(postgres_dsn: str) -> AsyncIterator[httpx.AsyncClient]:
    async with api_on(postgres_dsn) as address, httpx.AsyncClient(base_url=address.url) as client:
        yield client


async def test_the_life_of_a_schedule(http: httpx.AsyncClient) -> None:
    made = await http.post("/schedules", json={"name": "nightly", **PLAN})
    assert (made.status_code, made.headers["location"]) == (201, "/schedules/nightly")
    shown = made.json()
    backoff = {"initial": 1.0, "factor": 2.0, "max": 3600.0, "jitter": True}
    assert shown["job"] == {**JOB, "priority": 0, "max_retries": 3, "retry_backoff": backoff}
    assert (shown["missed"], "catch_up" in shown, shown["overlap"], shown["fires"]) == ("once", False, "allow", [])
    assert datetime.fromisoformat(shown["next_at"]).minute == 30
    assert (await http.get("/schedules/nightly")).json() == shown
    again = await http.post("/schedules", json={"name": "nightly", **PLAN})
    assert (again.status_code, again.json()["detail"]) == (
        409,
        "there is a schedule 'nightly': PUT /schedules/nightly replaces it",
    )
    same = await http.put("/schedules/nightly", json=PLAN)
    assert (same.status_code, same.json()) == (200, shown)
    catching_up = {**PLAN, "missed": "all"}
    assert (await http.put("/schedules/nightly", json=catching_up)).json()["catch_up"] == 10
    changed = (await http.put("/schedules/nightly", json={"every": 90, "job": JOB, "overlap": "skip"})).json()
    assert (changed["every"], changed["overlap"], "cron" in changed) == (90, "skip", False)
    assert (await http.put("/schedules/other", json=PLAN)).status_code == 201
    paused = (await http.post("/schedules/nightly/pause?who=ann")).json()
    assert (paused["paused_by"], paused["next_at"]) == ("ann", None)
    resumed = (await http.post("/schedules/nightly/resume")).json()
    assert ("paused_by" in resumed, resumed["next_at"] is not None) == (False, True)
    first = await http.get("/schedules?limit=1")
    assert [schedule["name"] for schedule in first.json()] == ["nightly"]
    assert first.headers["link"] == '</schedules?limit=1&cursor=nightly>; rel="next"'
    assert (await http.delete("/schedules/nightly")).json() == {"name": "nightly", "removed": True}
    assert [schedule["name"] for schedule in (await http.get("/schedules")).json()] == ["other"]
    for method, path in (
        ("GET", "/schedules/nightly"),
        ("DELETE", "/schedules/nightly"),
        ("POST", "/schedules/nightly/pause"),
        ("POST", "/schedules/nightly/resume"),
        ("GET", "/schedules/nightly/next"),
        ("GET", "/schedules/-"),
    ):
        assert (await http.request(method, path)).status_code == 404, path


async def test_the_coming_fires_are_shown_in_the_zone(http: httpx.AsyncClient) -> None:
    await http.put("/schedules/nightly", json=PLAN)
    document = (await http.get("/schedules/nightly/next?count=400")).json()
    assert document["errors"][0]["field"] == "count"
    document = (await http.get("/schedules/nightly/next?count=100")).json()
    fires = [datetime.fromisoformat(fire) for fire in document["fires"]]
    assert (document["tz"], document["paused"], len(fires)) == ("Europe/Berlin", False, 100)
    assert {(fire.hour, fire.minute) for fire in fires} <= {(2, 30), (3, 0)}
    await http.put("/schedules/leap", json={"cron": "0 0 29 2 MON", "tz": "UTC", "job": JOB})
    await http.put("/schedules/leap", json={"cron": "0 0 29 2 *", "job": JOB})
    assert len((await http.get("/schedules/leap/next?count=100")).json()["fires"]) in (2, 3)


async def test_a_schedule_of_another_version_is_shown_without_its_times(
    http: httpx.AsyncClient, postgres_dsn: str
) -> None:
    await http.put("/schedules/nightly", json=PLAN)
    with psycopg.connect(postgres_dsn) as connection:
        connection.execute("UPDATE taskd.schedules SET cron = '0 0 31W * *'")
    shown = await http.get("/schedules/nightly")
    assert (shown.status_code, shown.json()["next_at"]) == (200, None)
    coming = await http.get("/schedules/nightly/next")
    assert (coming.status_code, "'0 0 31W * *' is no cron expression" in coming.json()["detail"]) == (503, True)


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"cron": None}, "cron", "give either cron or every"),
        ({"every": 5}, "every", "give either cron or every"),
        ({"cron": "* * *"}, "cron", "is no cron expression"),
        ({"cron": "0 0 31 2 *"}, "cron", "never fires"),
        ({"tz": "Mars/Olympus"}, "tz", "is no time zone"),
        ({"cron": None, "every": 5}, "tz", "goes with cron"),
        ({"cron": None, "every": 0.5}, "every", "must be a number from 1 to 315360000, not 0.5"),
        ({"missed": "never"}, "missed", "one of skip, once, all"),
        ({"catch_up": 0}, "catch_up", "must be a whole number from 1 to 1000, not 0"),
        ({"catch_up": 3}, "catch_up", "goes with missed = all, not with once"),
        ({"catch_up": 3, "missed": "skip"}, "catch_up", "goes with missed = all, not with skip"),
        ({"overlap": "some"}, "overlap", "one of allow, skip, queue"),
        ({"name": "a/b"}, "name", "letters"),
        ({"name": "-"}, "name", "letters"),
        ({"wen": 1}, "wen", "is not a field"),
        ({"app": "a\0"}, "app", "NUL"),
        ({"job": {}}, "job.payload", "is required"),
        ({"job": {"payload": 1, "priority": 101}}, "job.priority", "must be a whole number from 0 to 100, not 101"),
        ({"job": {"payload": 1, "queue": "a b"}}, "job.queue", "letters"),
        ({"job": {"payload": 1, "dedupe_key": "x"}}, "job.dedupe_key", "is not a field"),
        ({"job": {"payload": 1, "parent_id": 1}}, "job.parent_id", "is not a field"),
        ({"job": {"payload": "\0"}}, "job.payload", "NUL"),
        ({"job": {"payload": 1, "metadata": {"fire_at": "x"}}}, "job.metadata", "the schedule sets it"),
    ],
)
async def test_an_invalid_schedule_names_its_field(
    http: httpx.AsyncClient, change: dict[str, Any], field: str, message: str
) -> None:
    refused = await http.post("/schedules", json={"name": "nightly", **PLAN, **change})
    assert refused.status_code == 422
    (error,) = refused.json()["errors"]
    assert error["field"] == field
    assert message in error["message"]
    assert (await http.get("/schedules")).json() == []


async def test_tokens_need_scopes_and_see_their_queues_only(postgres_dsn: str) -> None:
    lane = Lane(postgres_dsn, name="test", deadline=5.0)
    tokens = PostgresTokens(lane)

    async def token(queues: frozenset[str] | None, *scopes: Scope) -> dict[str, str]:
        token_id, text, digest = make()
        given = Token(id=token_id, name="t", digest=digest, scopes=frozenset(scopes), queues=queues)
        await tokens.create(given, who="test", lifetime=None)
        return {"authorization": f"Bearer {text}"}

    admin = await token(None, Scope.ADMIN)
    operator = await token(None, Scope.OPERATE, Scope.READ)
    reports = await token(frozenset({"reports"}), Scope.OPERATE, Scope.READ, Scope.SUBMIT)
    other = await token(frozenset({"images"}), Scope.OPERATE, Scope.READ, Scope.SUBMIT)
    await lane.close()
    async with api_on(postgres_dsn) as address, httpx.AsyncClient(base_url=address.url) as http:

        async def status(method: str, path: str, headers: dict[str, str], **more: Any) -> int:
            return (await http.request(method, path, headers=headers, **more)).status_code

        assert await status("PUT", "/schedules/nightly", operator, json=PLAN) == 403  # the token may not submit
        assert await status("PUT", "/schedules/nightly", other, json=PLAN) == 403
        assert await status("PUT", "/schedules/nightly", reports, json=PLAN) == 201
        elsewhere = {**PLAN, "job": {**JOB, "queue": "images"}}
        refused = await http.put("/schedules/nightly", headers=other, json=elsewhere)
        assert (refused.status_code, "reports" in refused.text) == (404, False)
        assert (await http.get("/schedules/nightly", headers=reports)).json()["job"] == {
            **JOB,
            "priority": 0,
            "max_retries": 3,
            "retry_backoff": {"initial": 1.0, "factor": 2.0, "max": 3600.0, "jitter": True},
        }
        assert await status("GET", "/schedules/nightly", other) == 404
        assert await status("POST", "/schedules/nightly/pause", other) == 404
        assert (await http.get("/schedules", headers=other)).json() == []
        assert len((await http.get("/schedules", headers=reports)).json()) == 1
        assert await status("POST", "/schedules/nightly/pause", operator) == 200
        assert (await http.get("/schedules/nightly", headers=admin)).json()["paused_by"] == "t"
        assert await status("DELETE", "/schedules/nightly", {}) == 401


@pytest.fixture
async def taskd(postgres_dsn: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs `taskd schedule` in a thread and returns its exit status, stdout and stderr."""
    async with api_on(postgres_dsn) as address:
        monkeypatch.setenv("TASKD_SERVER", address.url)

        async def call(*arguments: str) -> tuple[int, str, str]:
            status = await asyncio.to_thread(run, ["schedule", *arguments])
            printed = capsys.readouterr()
            # The log of the API, which runs in this process, is in the output too.
            out = "".join(line for line in printed.out.splitlines(keepends=True) if " audit " not in line)
            return status, out, printed.err

        yield call


async def test_the_command_line_does_what_the_api_does(taskd: Any) -> None:
    assert (await taskd("list"))[1] == "there are no schedules\n"
    made = await taskd(
        *("add", "nightly", '{"n": 1}', "--cron", "0 0 29 2 *", "--tz", "Europe/Berlin", "--task", "report"),
        *(
            "--queue",
            "reports",
            "--timeout",
            "1h",
            "--metadata",
            "team=a",
            "--missed",
            "all",
            "--catch-up",
            "3",
            "--json",
        ),
    )
    assert made[0] == 0
    plan = json.loads(made[1])
    assert (plan["job"]["payload"], plan["job"]["timeout"], plan["job"]["metadata"]) == ({"n": 1}, 3600, {"team": "a"})
    assert (plan["missed"], plan["catch_up"]) == ("all", 3)
    status, _, err = await taskd("add", "nightly", "--every", "10m")
    assert (status, "there is a schedule 'nightly'" in err) == (1, True)
    status, _, err = await taskd("add", "other", "--every", "10m", "--catch-up", "3")
    assert (status, "--catch-up goes with --missed all: give both, or neither" in err) == (2, True)
    assert "600" in (await taskd("add", "nightly", "--every", "10m", "--replace"))[1]
    assert "every 600 s" in (await taskd("list"))[1]
    assert "is paused by" in (await taskd("pause", "nightly"))[1]
    assert "the schedule is paused" in (await taskd("next", "nightly"))[2]
    assert "fires next at" in (await taskd("resume", "nightly"))[1]
    assert len((await taskd("next", "nightly", "--count", "7"))[1].splitlines()) == 7
    assert "schedule nightly" in (await taskd("show", "nightly"))[1]
    assert (await taskd("rm", "nightly"))[1] == "nightly is removed\n"
    status, _, err = await taskd("show", "nightly")
    assert (status, "there is no schedule 'nightly'" in err) == (1, True)


FIRST = """
import taskd
app = taskd.App()

@app.every(30, name="pulse")
@app.cron("*/5 * * * *", tz="Europe/Berlin", arguments={"month": "last"}, overlap="skip")
@app.task(queue="reports", timeout=30)
def report(month: str = "this"): ...
"""
SECOND = FIRST.replace('@app.every(30, name="pulse")', "").replace("*/5", "*/10")


async def test_an_apps_declarations_are_applied(
    taskd: Any, postgres_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    async def apply(text: str) -> tuple[int, str, str]:
        (tmp_path / "declaring.py").write_text(text)
        sys.modules.pop("declaring", None)
        document: tuple[int, str, str] = await taskd("apply", "--app", "declaring:app")
        return document

    assert await apply(FIRST) == (0, "made report\nmade pulse\n", "")
    shown = json.loads((await taskd("show", "report", "--json"))[1])
    assert (shown["app"], shown["cron"], shown["tz"], shown["overlap"]) == (
        "declaring",
        "*/5 * * * *",
        "Europe/Berlin",
        "skip",
    )
    job = shown["job"]
    assert (job["task"], job["queue"], job["timeout"], job["payload"]) == ("report", "reports", 30, {"month": "last"})
    await taskd("pause", "report")
    await taskd("add", "by-hand", "--every", "1m")
    assert await apply(FIRST) == (0, "same report\nsame pulse\n", "")
    assert await apply(SECOND) == (0, "changed report\nremoved pulse\n", "")
    listed = {schedule["name"]: schedule for schedule in json.loads((await taskd("list", "--json"))[1])}
    assert (listed["report"]["cron"], "paused_by" in listed["report"]) == ("*/10 * * * *", True)
    assert set(listed) == {"report", "by-hand"}
    status, out, err = await apply(FIRST.replace('name="pulse"', 'name="by-hand"'))
    assert (status, out, "by-hand: there are schedules of these names" in err) == (1, "", True)
    store = Storage(postgres_dsn)
    assert await store.schedules.one("report") is not None
    await store.close()


def test_all_pages_are_listed(postgres_dsn: str) -> None:
    async def main() -> list[str]:
        async with api_on(postgres_dsn) as address:
            return await asyncio.to_thread(listed, address.url)

    def listed(url: str) -> list[str]:
        with Client(url) as client:
            for n in range(103):
                client.schedule("PUT", f"s{n:03}", body=PLAN)
            return [schedule["name"] for schedule in client.schedules()]

    assert asyncio.run(main()) == [f"s{n:03}" for n in range(103)]
