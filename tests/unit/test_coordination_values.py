"""Tests of the readers of etcd's values: they never raise, and what they return can be shown, counted and stored."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskd.api.members import scheduler_view, worker_view
from taskd.coordination import values
from taskd.coordination.keys import of_session, own
from taskd.domain import config
from taskd.domain.config import Version
from taskd.domain.explain.situation import Holder
from taskd.seams import Member

MEMBER: dict[str, Any] = {
    "kind": "worker",
    "id": "w1",
    "incarnation": "2ff85f39-1430-4631-afee-530dd0d3c425",
    "address": "host:1",
    "host": "host",
    "pid": 7,
    "started_at": 1.5,
    "queues": ["default"],
    "slots": 8,
    "tasks": ["echo"],
    "stats": {"running": 1.0},
    "rates": {"default": 0.5},
    "lease": 15.0,
    "waits": {"17": "lock"},
    "stopping": [18],
}
NUMBERS = st.integers() | st.floats() | st.sampled_from([1e300, -1e300, 2**63, -1, 10**400, 253402300800])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
#: Any bytes, and members with one wrong field.
CHANGED = st.builds(
    lambda name, value: json.dumps({**MEMBER, name: value}).encode(), st.sampled_from(sorted(MEMBER)), JSON
)
FOREIGN = st.binary(max_size=200) | CHANGED | JSON.map(lambda value: json.dumps(value).encode())


def encoded(**changes: object) -> bytes:
    return json.dumps({**MEMBER, **changes}).encode()


def test_a_member_is_read() -> None:
    member = values.member(encoded())
    assert member is not None
    assert values.member(msgspec.json.encode(member)) == member


@pytest.mark.parametrize(
    "changes",
    [
        *({"started_at": value} for value in (1e300, -1.0, float("nan"), float("inf"), 253402300800, "x", None)),
        *({"pid": value} for value in (-1, 2**63, 1.5)),
        *({"slots": value} for value in (-1, 2**63, 10**300)),
        *({"id": value} for value in ("x" * 1_000_000, "\x1b[2J", "a\nb", "a\n", "\x9b", 7)),
        *({name: value} for name in ("host", "address") for value in ("x" * 501, "\x00")),
        *({name: value} for name in ("queues", "tasks") for value in (["\x1b"], [1], "x", ["x"] * 10_001)),
        *({"rates": {"q": value}} for value in (-1.0, 1e300, "x", float("nan"))),
        *({"lease": value} for value in (-1.0, 1e300, float("inf"))),
        {"stats": {"x": 1e300}},
        {"waits": {"x": "lock"}},
        {"waits": {str(2**64): "lock"}},
        {"stopping": [2**63]},
        {"kind": "ghost"},
        {"incarnation": "x"},
    ],
)
def test_a_member_out_of_bounds_is_none(changes: dict[str, object]) -> None:
    assert values.member(encoded(**changes)) is None


@pytest.mark.parametrize("data", [b"\xff", b"", b"[" * 100_000, encoded()[:-1], b"x" * 3_000_000])
def test_invalid_json_is_none(data: bytes) -> None:
    for read in (values.member, values.candidate, values.holder, values.version, values.fence):
        assert read(data) is None


@given(FOREIGN)
def test_any_value_is_a_member_that_can_be_shown_or_none(data: bytes) -> None:
    member = values.member(data)
    if member is not None:
        msgspec.json.encode([worker_view(member), scheduler_view(member), member])


@given(FOREIGN)
def test_any_value_is_a_candidate_a_holder_a_version_and_a_fence_or_none(data: bytes) -> None:
    msgspec.json.encode([values.candidate(data), values.holder(data), values.version(data)])
    start = values.fence(data)
    assert start is None or 0 < start <= values.MAX_FENCE


@given(st.text("0123456789٣-+ _.e", max_size=30) | st.integers(-10, 2**60).map(str) | st.just("9" * 5000))
def test_any_text_starts_fences_within_bounds_or_not_at_all(text: str) -> None:
    start = values.fence(text.encode())
    assert start is None or (0 < start <= values.MAX_FENCE and int(text) == start)


def test_holders_candidates_and_versions_are_read() -> None:
    holder = Holder(job_id=7, attempt=1, worker_id="w")
    assert values.holder(msgspec.json.encode(holder)) == holder
    candidate = values.Candidate("one", uuid4())
    assert values.candidate(msgspec.json.encode(candidate)) == candidate
    version = Version(version=3, at=datetime.now(UTC), who="me", what="set", values={"worker.concurrency": 4})
    assert values.version(config.encode(version)) == version
    assert values.fence(b"1700000000000000") == 1_700_000_000_000_000


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2**63},
        {"version": -1},
        {"values": {"worker.concurrency": 1e300}},
        {"values": {"worker.concurrency": 10**4000}},
        {"values": {"no.such": 1}},
        {"values": {"history.keep_completed": -1}},
        {"values": [1]},
        {"at": "99999-01-01T00:00:00Z"},
    ],
)
def test_a_version_out_of_bounds_is_none(changes: dict[str, object]) -> None:
    assert values.version(json.dumps({"version": 1, **changes}).encode()) is None


def test_a_key_of_a_session_is_recognized_by_its_name() -> None:
    assert of_session(own("/taskd/election/", 255, 3), 255)
    assert not of_session(own("/taskd/election/", 255, 3), 0)
    assert not of_session(own("/taskd/election/", 255, 3), 256)
    for name in (
        "junk",
        "00000000000000ff",
        "00000000000000ff-",
        "00000000000000FF-1",
        "\udcff",
        "00000000000000ff-1\n",
    ):
        assert not of_session(f"/taskd/election/{name}", 255)


def test_the_bounds_hold_what_taskd_writes() -> None:
    big = Member(
        kind="worker",
        id="w" * 500,
        incarnation=uuid4(),
        address="a",
        host="h",
        pid=1,
        started_at=1.0,
        queues=["q" * 100] * 1000,
        tasks=["t" * 200] * 5000,
        waits=dict.fromkeys(range(100), "l" * 1000),
    )
    assert values.member(msgspec.json.encode(big)) is not None
