"""Tests of results: tasks return values that the database can store, or are refused with the reason."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from enum import IntEnum, StrEnum
from typing import Any

import pytest

from taskd.domain.errors import Unstorable
from taskd.domain.storable import MAX_DEPTH, to_json


class Colour(StrEnum):
    RED = "red"


class Size(IntEnum):
    LARGE = 3


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.fixture
def endless_recursion() -> Iterator[None]:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)
    yield
    sys.setrecursionlimit(before)


@pytest.mark.parametrize(
    "value",
    [None, True, 1, 1.5, "é\n[[[{", [1, (2, 3)], {"a": {"b": []}}, {Colour.RED: Size.LARGE}, [10**4000], [{}] * 1000],
)
def test_a_json_value_is_stored_unchanged(value: Any) -> None:
    assert json.loads(to_json(value, 100_000)) == json.loads(json.dumps(value))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("nan"), "NaN or infinite"),
        ([float("inf")], "NaN or infinite"),
        ({"a": -float("inf")}, "NaN or infinite"),
        ({1: "a"}, "a key of type int"),
        ([{"a": {None: 1}}], "a key of type NoneType"),
        (({True: 1},), "a key of type bool"),
        ({(1, 2): 3}, "a key of type tuple"),
        ([10**5000], "an integer of more than 4300 digits"),
        ({"a": {1, 2}}, "an object of type set"),
        ("a\x00b", "NUL"),
        ("\ud800", "lone surrogate"),
        ("x" * 100, "102 bytes, but at most 100"),
    ],
)
def test_a_value_that_json_does_not_have_is_refused_with_the_reason(value: Any, words: str) -> None:
    with pytest.raises(Unstorable, match=words):
        to_json(value, 100)


@pytest.mark.usefixtures("endless_recursion")
def test_the_depth_limit_does_not_depend_on_the_recursion_limit() -> None:
    assert len(to_json(nested(MAX_DEPTH), 1000)) == 2 * MAX_DEPTH
    itself: dict[str, Any] = {}
    itself["itself"] = itself
    for value in (nested(MAX_DEPTH + 1), nested(100_000), itself):
        with pytest.raises(Unstorable, match=f"more than {MAX_DEPTH} levels"):
            to_json(value, 1_000_000)


def test_text_that_looks_nested_is_not() -> None:
    assert to_json(["[{" * 500], 10_000)


def test_a_result_that_is_shared_over_and_over_is_checked_quickly() -> None:
    value: list[Any] = []
    for _ in range(MAX_DEPTH + 10):  # 2 to the power of 210 references if each were followed
        value = [value, value]
    with pytest.raises(Unstorable, match="levels deep"):
        to_json(value, 1000)
