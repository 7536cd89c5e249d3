"""Tests of JSON whose numbers stay as they were written."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskd.domain.exact import JsonText, Number, dumps, loads

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.parametrize(
    "text", ["12345678901234567890123.5", "1e400", "-0", "1.50", "1E5", "0.1", "1" * 5000, "-1.0e-999", "7", "1.5"]
)
def test_a_number_is_written_as_it_came(text: str) -> None:
    assert dumps(loads(f'{{"a": [{text}]}}')) == f'{{"a": [{text}]}}'
    assert dumps({"payload": JsonText(f" {text}\n")}) == f'{{"payload": {text}}}'


def test_a_number_counts_as_the_float_that_it_comes_nearest_to() -> None:
    number = loads("2.50")
    assert (number * 2, f"{number:g}", str(number), repr(number)) == (5.0, "2.5", "2.50", "2.50")
    copy = pickle.loads(pickle.dumps(number))
    assert type(copy) is Number
    assert copy.text == "2.50"


@given(VALUES)
def test_the_text_is_that_of_the_standard_library(value: Any) -> None:
    assert dumps(value) == json.dumps(value, ensure_ascii=False)
    assert dumps(value, indent=2) == json.dumps(value, ensure_ascii=False, indent=2)
    assert dumps(value, sort_keys=True, ascii_only=True) == json.dumps(value, sort_keys=True)
    assert loads(dumps(value)) == value


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "{", "", "\ufeff", "1 2"])
def test_invalid_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        JsonText(text)


def test_a_byte_order_mark_is_no_part_of_the_value() -> None:
    assert JsonText('\ufeff{"a": 1}').text == '{"a": 1}'
    with pytest.raises(ValueError, match="range"):
        dumps(float("nan"))


def test_keys_that_are_not_texts_are_written_as_the_standard_library_does() -> None:
    value = {2: 2, None: 3, True: 4, 1.5: 5}
    assert dumps(value) == json.dumps(value)
