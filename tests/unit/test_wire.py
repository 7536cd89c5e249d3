"""What a stream entry says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskd.transport.wire import decode, decode_ids, encode, encode_ids


@given(st.integers(0, 2**63), st.integers(0, 2**31))
def test_what_was_encoded_is_decoded(job_id: int, seq: int) -> None:
    assert decode(encode(job_id, seq)) == (job_id, seq)


@pytest.mark.parametrize("value", ["", "1:2", "2:3:4", "1:a:b", "1:-1:2", "1:2:3:4", "\x00"])
def test_what_this_version_cannot_read_is_told_apart(value: str) -> None:
    assert decode(value) is None


def test_a_message_names_jobs_and_what_is_no_id_is_passed_over() -> None:
    assert decode_ids(encode_ids([17, 18])) == {17, 18}
    assert decode_ids("") == frozenset()
    assert decode_ids("17,x,,-3,٣,18.5," + "9" * 5000) == {17}
