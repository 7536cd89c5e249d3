"""Tests of POST /jobs and POST /jobs/batch: accepted and refused bodies."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskd.domain.errors import Rejected, StoreUnavailable
from taskd.domain.policy import Backoff
from tests.submissions import BAD, GOOD, UNSTORABLE
from tests.unit.api_world import Recorder, a_job, asking

JSON = {"content-type": "application/json"}


async def post(client: httpx.AsyncClient, body: bytes | str, path: str = "/jobs") -> httpx.Response:
    return await client.post(path, content=body, headers=JSON)


def problem(response: httpx.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["status"] == response.status_code
    assert document["title"]
    assert document["detail"]
    return document


async def test_a_submit_answers_201_with_the_job_and_its_defaults(client: httpx.AsyncClient) -> None:
    response = await post(client, '{"payload": {"a": 1}}')
    assert response.status_code == 201
    assert response.headers["location"] == "/jobs/1"
    assert response.json() == {
        "id": 1,
        "status": "pending",
        "task": "default",
        "queue": "default",
        "priority": 0,
        "payload": {"a": 1},
        "created_at": "2026-01-31T12:00:00Z",
        "schedule_at": "2026-01-31T12:00:00Z",
        "attempt": 0,
        "max_retries": 3,
    }


async def test_every_field_reaches_the_store(client: httpx.AsyncClient, world: Recorder) -> None:
    body = {
        "payload": [1, "é", None],
        "task": "shop.resize",
        "queue": "images",
        "priority": 100,
        "dedupe_key": "k",
        "schedule_at": "2026-02-01T01:00:00+01:00",
        "max_retries": 0,
        "retry_backoff": {"initial": 2, "factor": 3, "max": 4, "jitter": False},
        "timeout": 1.5,
        "metadata": {"a": "b", "n": 1, "f": 1.5, "t": True, "z": None},
        "parent_id": 7,
    }
    response = await post(client, msgspec.json.encode(body))
    assert response.status_code == 201
    (spec,) = world.specs
    assert bytes(spec.payload) == '[1,"é",null]'.encode()
    assert (spec.task, spec.queue, spec.priority, spec.dedupe_key) == ("shop.resize", "images", 100, "k")
    assert spec.schedule_at == datetime(2026, 2, 1, tzinfo=UTC)
    assert (spec.max_retries, spec.timeout, spec.parent_id) == (0, 1.5, 7)
    assert response.json()["parent_id"] == 7
    assert spec.retry_backoff == Backoff(2, 3, 4, jitter=False)
    assert spec.metadata == {"a": "b", "n": 1, "f": 1.5, "t": True, "z": None}


async def test_a_payload_is_stored_unchanged(client: httpx.AsyncClient, world: Recorder) -> None:
    await post(client, rb'{"payload": {"n": 1.10, "big": 123456789012345678901234567890, "s": "\\u0000"}}')
    assert bytes(world.specs[0].payload) == rb'{"n": 1.10, "big": 123456789012345678901234567890, "s": "\\u0000"}'


async def test_a_dedupe_hit_answers_200_with_the_first_job(client: httpx.AsyncClient, world: Recorder) -> None:
    world.duplicate_of = 17
    world.found[17] = a_job(17, dedupe_key="k")
    response = await post(client, '{"payload": 1, "dedupe_key": "k"}')
    assert response.status_code == 200
    assert response.json()["id"] == 17
    assert response.json()["duplicate"] is True
    assert response.json()["attempts"] == []


@pytest.mark.parametrize("body", GOOD)
async def test_valid_jobs_are_accepted(client: httpx.AsyncClient, world: Recorder, body: str) -> None:
    response = await post(client, body)
    assert response.status_code == 201, response.text
    assert len(world.specs) == 1


DEEP = (f'{{"payload": {"[" * 4000}{"]" * 4000}}}', "payload")


@pytest.mark.parametrize(("body", "field"), [*BAD, *UNSTORABLE, DEEP])
async def test_a_bad_field_is_named_in_a_422(client: httpx.AsyncClient, world: Recorder, body: str, field: str) -> None:
    response = await post(client, body)
    assert response.status_code == 422, response.text
    (error,) = problem(response)["errors"]
    assert error["field"] == field
    assert not any(word in error["message"] for word in ("xpected", "`", "something else", "Object", "Invalid"))
    assert not world.specs


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("priority", 101, "must be a whole number from 0 to 100, not 101"),
        ("priority", "5", 'must be a whole number from 0 to 100, not "5"'),
        ("timeout", 0, "must be a number above 0, at most 315360000, not 0"),
        ("dedupe_key", "", 'must be a text of 1 to 255 characters, not ""'),
        ("dedupe_key", "k" * 256, "must be a text of 1 to 255 characters"),
        ("queue", "a b", 'must be 1 to 255 letters, digits or any of _ . : / -, not "a b"'),
        ("retry_backoff", 1, "must be an object with the fields initial, factor, max, jitter, not 1"),
        ("schedule_at", "soon", 'must be an RFC 3339 time with an offset, as in 2026-01-31T12:00:00Z, not "soon"'),
    ],
)
async def test_an_error_states_the_rule_for_its_field(
    client: httpx.AsyncClient, field: str, value: object, message: str
) -> None:
    response = await client.post("/jobs", json={"payload": 1, field: value})
    assert problem(response)["errors"] == [{"field": field, "message": message}]
    assert problem(response)["detail"] == f"{field}: {message}"


async def test_an_error_states_the_rule_for_a_nested_field(client: httpx.AsyncClient) -> None:
    response = await client.post("/jobs", json={"payload": 1, "retry_backoff": {"jitter": 1}})
    expected = {"field": "retry_backoff.jitter", "message": "must be true or false, not 1"}
    assert problem(response)["errors"] == [expected]


async def test_an_unknown_field_is_refused_with_the_known_fields(client: httpx.AsyncClient) -> None:
    response = await post(client, '{"payload": 1, "pirority": 1}')
    assert "priority" in problem(response)["errors"][0]["message"]


async def test_a_time_without_offset_is_refused_with_an_example(client: httpx.AsyncClient) -> None:
    response = await post(client, '{"payload": 1, "schedule_at": "2026-01-01T00:00:00"}')
    assert "needs an offset" in problem(response)["detail"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"payload": 1} x',
        b'{"payload": NaN}',
        b'{"payload": 01}',
        b'{"payload": "\xff"}',
        b'{"payload": "\xed\xa0\x80"}',
        b'{"payload": 1, "queue": "\xff"}',
        rb'{"payload": "\ud800"}',
        rb'{"payload": {"\udc00\ud800": 1}}',
        rb'{"payload": 1, "dedupe_key": "\ud800"}',
        b'{"payload": "\x00"}',
        b'\xef\xbb\xbf{"payload": 1}',
    ],
)
async def test_malformed_json_gets_a_400(client: httpx.AsyncClient, body: bytes) -> None:
    response = await post(client, body)
    assert response.status_code == 400, response.text
    problem(response)


@pytest.mark.parametrize("payload", ["[" * 200 + "]" * 200, "[" + "[]," * 2000 + "[]]", '"' + "[" * 900 + '"'])
async def test_brackets_in_strings_are_not_nesting(client: httpx.AsyncClient, payload: str) -> None:
    assert (await post(client, f'{{"payload": {payload}}}')).status_code == 201


async def test_a_payload_over_its_limit_gets_a_413(client: httpx.AsyncClient) -> None:
    assert (await post(client, f'{{"payload": "{"x" * 9998}"}}')).status_code == 201
    response = await post(client, f'{{"payload": "{"x" * 9999}"}}')
    assert response.status_code == 413
    assert problem(response)["errors"][0]["field"] == "payload"


async def test_an_endless_body_is_not_read_to_its_end(client: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100_000_000:
            sent += 65_536
            yield b" " * 65_536

    response = await client.post("/jobs", content=endless(), headers=JSON)
    assert response.status_code == 413
    assert response.headers["connection"] == "close"
    assert sent < 1_500_000


async def test_a_body_in_pieces_is_joined(client: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b'{"pay', b'load": ', b"1}"):
            yield piece

    assert (await client.post("/jobs", content=pieces(), headers=JSON)).status_code == 201


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json; charset=latin-1"},
        {"content-type": "application/json", "content-encoding": "gzip"},
        {},
    ],
)
async def test_other_media_types_get_a_415(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    response = await client.post("/jobs", content=b'{"payload": 1}', headers=headers)
    assert response.status_code == 415
    problem(response)


async def test_a_charset_of_utf_8_is_accepted(client: httpx.AsyncClient) -> None:
    headers = {"content-type": 'Application/JSON; charset="UTF-8"'}
    assert (await client.post("/jobs", content=b'{"payload": 1}', headers=headers)).status_code == 201


async def test_without_postgresql_it_is_a_503_with_retry_after(client: httpx.AsyncClient, world: Recorder) -> None:
    world.failure = StoreUnavailable("PostgreSQL is away", outcome_unknown=True)
    response = await post(client, '{"payload": 1}')
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert problem(response)["outcome_unknown"] is True


async def test_values_that_postgresql_rejects_get_a_422(client: httpx.AsyncClient, world: Recorder) -> None:
    world.failure = Rejected("no")
    assert (await post(client, '{"payload": 1}')).status_code == 422


async def test_a_bug_is_a_500_without_details(
    client: httpx.AsyncClient, world: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    world.failure = ZeroDivisionError("secret")
    response = await post(client, '{"payload": 1}')
    assert response.status_code == 500
    assert "secret" not in response.text
    captured = capsys.readouterr()
    assert "secret" in captured.out + captured.err


async def test_a_batch_is_answered_in_its_order(client: httpx.AsyncClient, world: Recorder) -> None:
    response = await post(client, '{"jobs": [{"payload": 1}, {"payload": 2, "queue": "q"}]}', "/jobs/batch")
    assert response.status_code == 201
    assert response.json() == {"ids": [1, 2], "duplicates": []}
    assert [bytes(s.payload) for s in world.specs] == [b"1", b"2"]


async def test_a_batch_may_be_one_job_a_line(client: httpx.AsyncClient, world: Recorder) -> None:
    lines = b'{"payload": 1}\r\n\n{"payload": 2}\n'
    response = await client.post("/jobs/batch", content=lines, headers={"content-type": "application/x-ndjson"})
    assert response.status_code == 201
    assert len(world.specs) == 2


async def test_a_batch_with_bad_jobs_names_them_and_stores_none(client: httpx.AsyncClient, world: Recorder) -> None:
    body = '{"jobs": [{"payload": 1}, {"payload": 1, "priority": 101}, {"queue": "q"}]}'
    response = await post(client, body, "/jobs/batch")
    assert response.status_code == 422
    assert [e["field"] for e in problem(response)["errors"]] == ["jobs[1].priority", "jobs[2].payload"]
    assert not world.specs


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[]", 422),
        (b'{"jobs": 1}', 422),
        (b'{"jobs": [1]}', 422),
        (b'{"jobs": [], "x": 1}', 422),
        (b'{"jobs": [', 400),
        (b'{"jobs": [{"payload": "\xff"}]}', 400),
        (b'{"jobs": [' + b",".join([b'{"payload": 1}'] * 51) + b"]}", 413),
        (b'{"jobs": [{"payload": "' + b"x" * 10_001 + b'"}]}', 413),
        (b" " * 100_001, 413),
        (b'{"jobs": ' + b"[" * 3000 + b"]" * 3000 + b"}", 422),
        (b'{"jobs": []}', 201),
    ],
)
async def test_an_invalid_batch_is_refused(client: httpx.AsyncClient, body: bytes, status: int) -> None:
    response = await post(client, body, "/jobs/batch")
    assert response.status_code == status, response.text
    assert len(response.content) < 2000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from(
    [
        *("payload", "task", "queue", "priority", "dedupe_key", "schedule_at", "delay", "max_retries"),
        *("retry_backoff", "timeout", "metadata", "initial", "jobs"),
    ]
)
almost_jobs = st.dictionaries(names, json_values, max_size=8)


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


bodies = st.binary() | st.text().map(str.encode) | json_values.map(as_json) | almost_jobs.map(as_json)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=bodies, batch=st.booleans(), ndjson=st.booleans())
async def test_bad_input_is_never_a_server_error(body: bytes, batch: bool, ndjson: bool) -> None:
    headers = {"content-type": "application/x-ndjson" if ndjson and batch else "application/json"}
    async with asking(Recorder()) as client:
        response = await client.post("/jobs/batch" if batch else "/jobs", content=body, headers=headers)
    assert response.status_code in (201, 400, 413, 415, 422)
    assert response.json()


@settings(max_examples=200, deadline=None)
@given(
    path=st.text(min_size=1, max_size=30), query=st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3)
)
async def test_no_path_or_query_is_a_server_error(path: str, query: dict[str, str]) -> None:
    async with asking(Recorder()) as client:
        for start in ("/jobs/", "/jobs?", "/"):
            response = await client.get(f"{start}{quote(path, safe='%=&?')}", params=query or None)
            assert response.status_code < 500
