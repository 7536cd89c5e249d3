"""Tests of expensive payloads: each is checked in one pass, and does not delay other requests."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskd.api import strictjson
from taskd.api.batches import parse_batch
from taskd.api.problems import Problem
from taskd.settings import HttpSettings

MB = 1024 * 1024
JSON = b"application/json"
NDJSON = b"application/x-ndjson"


async def message(text: bytes) -> str:
    """Return the error of a payload; an empty text if it is accepted."""
    try:
        await strictjson.check_value(msgspec.Raw(text), "payload")
    except Problem as problem:
        return problem.errors[0].message
    return ""


def nested(depth: int, inner: bytes = b"1") -> bytes:
    return b"[" * depth + inner + b"]" * depth


@pytest.mark.parametrize("piece", [1, 7, 64 * 1024])
@pytest.mark.parametrize("padding", [0, 5000])
@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (nested(200), ""),
        (nested(201), "nested too deeply"),
        (nested(199, b'{"a":1}'), ""),
        (nested(200, b'{"a":1}'), "nested too deeply"),
        (nested(199, b'{"a":[],"b":{"c":2}}'), "nested too deeply"),
        (nested(200, b'"[[[["'), ""),
        (nested(200, rb'"\"[[\\\\\"{{"'), ""),
        (nested(200, rb'"\\",[]'), "nested too deeply"),
        (b"[" + b",".join([nested(199)] * 5) + b"]", ""),
        (b"1e308", ""),
        (b"[1e309]", "out of range"),
        (b'{"a":-1E400}', "out of range"),
        (b"[" + b"9" * 5000 + b"]", "out of range"),
        (b"[0." + b"9" * 400 + b"]", ""),
        (b'["1e999","' + b"9" * 400 + b'"]', ""),
        (rb'["a\u0000"]', "NUL"),
        (rb'["a\\u0000"]', ""),
        (rb'["a\\\u0000"]', "NUL"),
    ],
)
async def test_a_payload_is_checked_alike_whole_and_in_pieces(
    monkeypatch: pytest.MonkeyPatch, text: bytes, wrong: str, padding: int, piece: int
) -> None:
    monkeypatch.setattr(strictjson, "PIECE", piece)
    outcome = await message(text + b" " * padding)
    assert wrong in outcome if wrong else outcome == ""


VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=60, deadline=None)
@given(VALUES, st.integers(1, 60))
async def test_small_pieces_find_no_error_in_valid_json(value: Any, piece: int) -> None:
    text = msgspec.json.encode(value)
    if strictjson.has_nul(text):
        return
    before, strictjson.PIECE, strictjson.SMALL = (strictjson.PIECE, strictjson.SMALL), piece, 0
    try:
        assert await message(text) in ("", "has a number that is out of range: the largest is about 1.8e308")
    finally:
        strictjson.PIECE, strictjson.SMALL = before


def batch(*payloads: bytes) -> bytes:
    return b'{"jobs":[' + b",".join(b'{"payload":' + payload + b"}" for payload in payloads) + b"]}"


EXPENSIVE = {
    "deep": (batch(*[b"[" + b",".join([nested(199)] * 2400) + b"]"] * 14), JSON, 14),
    "deep and flat": (batch(*[nested(198, b",".join([b"[]"] * (MB // 4)))] * 14), JSON, 14),
    "empty strings": (batch(*[nested(150, b",".join([b'""'] * (MB // 4)))] * 14), JSON, 14),
    "exponents": (batch(*[b"[" + b",".join([b"1e1"] * (MB // 5)) + b"]"] * 14), JSON, 14),
    "backslashes": (batch(*[b'"' + rb"\\" * (MB // 2 - 100) + rb'\\u0000"'] * 14), JSON, 14),
    "objects": (batch(*[b"{" + b",".join(b'"%d":{}' % n for n in range(MB // 14)) + b"}"] * 14), JSON, 14),
    "digits": (batch(b"9" * (MB - 10)), JSON, "out of range"),
    "high exponents": (batch(*[b"[" + b",".join([b"1.5e300"] * (MB // 8 - 10)) + b"]"] * 14), JSON, 14),
    "high exponents in small jobs": (
        batch(*[b"[" + b",".join([b"1.5e+300"] * 160) + b"]"] * 9000),
        JSON,
        9000,
    ),
    "numbers for jobs": (b'{"jobs":[' + b"1," * 7 * MB + b"1]}", JSON, "a batch may have"),
    "empty jobs": (b'{"jobs":[' + b"{}," * 5 * MB + b"{}]}", JSON, "a batch may have"),
    "texts for jobs": (b'{"jobs":[' + b'"\\",",' * 2 * MB + b"1]}", JSON, "a batch may have"),
    "open": (batch(b"[" * 15 * MB), JSON, "nested too deeply"),
    "one large job": (batch(b'1,"' + b"a - at `$." * MB + b'":1'), JSON, "larger than"),
    "many keys": (batch(b'1,"metadata":{' + b",".join(b'"%d":1' % n for n in range(MB)) + b"}"), JSON, "larger than"),
    "empty lines": (b"\n" * 16_000_000 + b'{"payload":1}', NDJSON, 1),
    "too many lines": (b'{"payload":1}\n' * MB, NDJSON, "a batch may have"),
}


@pytest.mark.parametrize("name", EXPENSIVE)
async def test_an_expensive_batch_is_read_in_one_pass_and_in_slices(name: str) -> None:
    """A hundred passes over such a batch take 20 s of processor time. The limit allows for slow machines."""
    body, media, expected = EXPENSIVE[name]
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    began = time.process_time()
    try:
        outcome: Any = len(await parse_batch(body, media, HttpSettings()))
    except Problem as problem:
        outcome = problem.detail
    took = time.process_time() - began
    counting.cancel()
    assert outcome == expected if isinstance(expected, int) else expected in outcome
    assert took < 8.0
    if expected == 14:
        assert turns >= 10


def test_the_check_for_nul_is_linear() -> None:
    text = b'"' + rb"\\" * 4 * MB + rb'\\u0000"'
    began = time.process_time()
    assert not strictjson.has_nul(text)
    assert time.process_time() - began < 1.0
