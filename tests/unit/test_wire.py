"""What a stream entry says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskd.transport.wire import decode, encode


@given(st.integers(0, 2**63), st.integers(0, 2**31))
def test_what_was_encoded_is_decoded(job_id: int, seq: int) -> None:
    assert decode(encode(job_id, seq)) == (job_id, seq)


@pytest.mark.parametrize("value", ["", "1:2", "2:3:4", "1:a:b", "1:-1:2", "1:2:3:4", "\x00"])
def test_what_this_version_cannot_read_is_told_apart(value: str) -> None:
    assert decode(value) is None
