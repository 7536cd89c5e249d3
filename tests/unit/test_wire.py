"""Tests of the readers of values in Redis: they never raise, and what they return is within bounds."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskd.seams import LeaderView
from taskd.transport.wire import (
    MAX_ID,
    MAX_MESSAGE,
    MAX_SEQ,
    Ids,
    decode,
    decode_found,
    decode_ids,
    decode_view,
    encode,
    encode_ids,
    is_incarnation,
)

#: Bytes of any kind, as the client passes them on, and texts that are almost right.
FOREIGN = st.one_of(
    st.binary(max_size=200).map(lambda data: data.decode("utf-8", "surrogateescape")),
    st.text(max_size=200),
    st.from_regex(r"[0-9]:[0-9]{1,40}:[0-9]{1,40}", fullmatch=True),
    st.from_regex(r"1:[0-9٣]{1,20}:[0-9٣]{1,12}", fullmatch=True),
    st.builds(lambda digits: f"1:{'9' * digits}:1", st.integers(1, 6000)),
    st.none(),
    st.integers(),
)


@given(st.integers(1, MAX_ID), st.integers(0, MAX_SEQ))
def test_an_encoded_entry_is_decoded(job_id: int, seq: int) -> None:
    assert decode(encode(job_id, seq)) == (job_id, seq)


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            "1:2",
            "2:3:4",
            "1:a:b",
            "1:-1:2",
            "1:2:3:4",
            "\x00",
            "\udcff",
            "1:٣:1",
            "1:1:²",
            "1:1:1\n",
            "1:0:1",
            "1: 1:1",
        ),
        *("1:99999999999999999999999:1", f"1:{2**63}:1", f"1:1:{2**31}", f"1:{'9' * 5000}:1", f"1:1:{'9' * 5000}"),
    ],
)
def test_an_entry_out_of_bounds_is_none(value: str) -> None:
    assert decode(value) is None


@given(FOREIGN)
def test_any_entry_is_read_within_bounds_or_not_at_all(value: object) -> None:
    entry = decode(value)
    assert entry is None or (1 <= entry[0] <= MAX_ID and 0 <= entry[1] <= MAX_SEQ)


def test_a_message_names_jobs_and_invalid_ids_are_passed_over() -> None:
    (message,) = encode_ids([17, 18])
    assert decode_ids(message) == Ids(frozenset({17, 18}), 0)
    assert decode_ids("") == Ids(frozenset(), 0)
    assert decode_ids("17,x,,-3,٣,18.5," + "9" * 5000) == Ids(frozenset({17}), 6)
    assert decode_ids("9" * (MAX_MESSAGE + 1)) == Ids(frozenset(), 1)


@given(st.lists(st.integers(1, MAX_ID), max_size=20) | st.just(list(range(2**62, 2**62 + 7001))))
def test_the_messages_about_any_number_of_jobs_name_all_of_them(job_ids: list[int]) -> None:
    messages = [decode_ids(message) for message in encode_ids(job_ids)]
    assert frozenset().union(*(ids.ids for ids in messages)) == set(job_ids)
    assert not any(ids.malformed for ids in messages)


@given(FOREIGN | st.text("0123456789,-٣", max_size=300))
def test_any_message_names_ids_within_bounds(text: object) -> None:
    assert all(1 <= job_id <= MAX_ID for job_id in decode_ids(text).ids)


@given(
    FOREIGN
    | st.builds(lambda e, p: f'{{"epoch":{e},"postgres":{p}}}', st.integers() | st.floats(), st.text(max_size=9))
)
def test_any_view_is_read_within_bounds_or_not_at_all(text: object) -> None:
    view = decode_view(text)
    assert view is None or 0 <= view.epoch <= MAX_ID


def test_a_view_is_read_and_one_out_of_bounds_is_none() -> None:
    assert decode_view(msgspec.json.encode(LeaderView(7, postgres=True)).decode()) == LeaderView(7, postgres=True)
    for text in (f'{{"epoch":{2**63},"postgres":true}}', '{"epoch":-1,"postgres":true}', "[" * 9000, "{}", '"\udcff"'):
        assert decode_view(text) is None


@given(FOREIGN)
def test_any_text_is_an_incarnation_or_not(text: object) -> None:
    assert is_incarnation(text) in (True, False)


@given(st.recursive(FOREIGN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner)))
def test_any_reply_is_read_as_entries(reply: object) -> None:
    assert all(isinstance(part, str) for entry in decode_found(reply) for part in entry)


def test_an_entry_is_read_by_the_name_of_its_field() -> None:
    reply = {"s": [["1-0", {"x": "y", "d": "1:2:3"}], ["2-0", {"x": "1:2:3"}], ["3-0", None]]}
    assert decode_found(reply) == [("s", "1-0", "1:2:3"), ("s", "2-0", ""), ("s", "3-0", "")]
