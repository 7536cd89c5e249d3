"""Tests of responses while servers are away: which details they have, and which only the log has."""

from __future__ import annotations

import httpx
import pytest
from structlog.testing import capture_logs

from taskd.domain.errors import Rejected, RowHeld, SchemaMismatch, StoreUnavailable
from taskd.domain.health import AWAY
from taskd.seams import Health
from tests.unit.api_world import Recorder, a_job

LIBPQ = (
    'PostgreSQL: connection failed: connection to server at "10.1.2.3", port 5432 failed: FATAL: role "payroll" does'
    ' not exist in database "salaries"'
)
HIDDEN = ("10.1.2.3", "5432", "payroll", "salaries", "relation", "taskd.jobs")


@pytest.mark.parametrize("path", ["/jobs/17", "/metrics", "/leader", "/jobs/17/logs", "/jobs/17/explain"])
async def test_a_failed_read_quotes_no_driver_and_has_no_unknown_outcome(
    client: httpx.AsyncClient, world: Recorder, path: str
) -> None:
    world.found[17] = a_job(17)
    world.failure = StoreUnavailable(LIBPQ, outcome_unknown=True)
    response = await client.get(path)
    if path == "/leader":  # answered from etcd
        assert response.status_code == 200
    elif path != "/jobs/17/explain":  # the recorder has no job to explain
        assert (response.status_code, response.json()["detail"]) == (503, "PostgreSQL is away")
    assert "outcome_unknown" not in response.text
    assert not [word for word in HIDDEN if word in response.text]


async def test_a_change_that_was_not_begun_has_no_unknown_outcome(client: httpx.AsyncClient, world: Recorder) -> None:
    world.failure = StoreUnavailable(LIBPQ, outcome_unknown=True)
    refused = await client.post("/jobs/17/cancel")
    assert (refused.status_code, "outcome_unknown" in refused.json()) == (503, False)
    submitted = await client.post("/jobs", json={"payload": 1})
    assert (submitted.status_code, submitted.json()["outcome_unknown"]) == (503, True)
    assert submitted.json()["detail"] == "PostgreSQL is away"


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (RowHeld("PostgreSQL: canceling statement due to lock timeout on relation taskd.jobs"), 503, "transaction"),
        (SchemaMismatch('the schema does not fit (relation "taskd.jobs" does not exist)'), 503, "taskd migrate"),
        (Rejected('new row for relation "taskd.jobs" violates check constraint "payroll"'), 422, "cannot store"),
        (StoreUnavailable("PostgreSQL did not store the job within 2 s", shown=True), 503, "within 2 s"),
    ],
)
async def test_an_error_of_postgresql_is_not_quoted(
    client: httpx.AsyncClient, world: Recorder, error: Exception, status: int, words: str
) -> None:
    world.failure = error
    with capture_logs() as lines:
        response = await client.post("/jobs", json={"payload": 1})
    assert (response.status_code, words in response.json()["detail"]) == (status, True)
    assert not [word for word in HIDDEN if word in response.text]
    assert len(lines) == (1 if isinstance(error, SchemaMismatch | Rejected) else 0)


async def test_health_names_servers_without_their_addresses(client: httpx.AsyncClient, world: Recorder) -> None:
    world.parts = {
        "postgres": Health(ok=False, since=1.0, detail=LIBPQ),
        "redis": Health(ok=False, since=1.0, detail="Error 111 connecting to redis://:secret@10.1.2.3:6379"),
        "etcd": Health(ok=False, since=1.0, detail="etcd at 10.1.2.3:2379 cannot be reached"),
    }
    response = await client.get("/health")
    details = {name: part["detail"] for name, part in response.json()["components"].items()}
    assert details == dict.fromkeys(("postgres", "redis", "etcd"), AWAY)
    assert not [word for word in (*HIDDEN, "secret") if word in response.text]
