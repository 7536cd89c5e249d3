"""Test the decoding of an executor's messages: anything may arrive, and a message that passes can be stored."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskd.domain.output import Chunk, Line
from taskd.executor.results import ResultEncoder, to_text
from taskd.worker.pool.decoding import Limits, decode, storable
from taskd.worker.pool.protocol import (
    BrokenStream,
    End,
    EndKind,
    Ends,
    LockRelease,
    LockRequest,
    LogMessage,
    NoteMessage,
    Ready,
    ToWorker,
    Unusable,
)
from tests.unit.claims import order

LIMITS = Limits(result=100_000, error=10_000)
LINES = msgspec.json.encode([Line(1.0, "stdout", "", "x"), Line(2.0, "log", "info", "y")])
GOOD: list[ToWorker] = [
    Ready(["echo"], {"echo": 1.5}),
    Unusable("no module"),
    Ends([End(1, 1, EndKind.COMPLETED, b'{"a":[1]}'), End(2, 1, EndKind.FAILED, "ž".encode(), None, b"line 1")]),
    Ends(
        [
            End(1, 1, EndKind.FAILED, b"", datetime.now(UTC)),
            End(1, 1, EndKind.SNOOZED, b"", 3.5),
            End(1, 1, EndKind.STOPPED),
        ]
    ),
    Ends([End(1, 1, EndKind.COMPLETED, b"1", output=Chunk(1, 1, 1, 2, False, LINES))]),
    NoteMessage(1, 1, 0, progress=b'{"attempt":1,"fraction":0.5}'),
    NoteMessage(1, 1, 3, checkpoint=b"null"),
    LockRequest(1, 1, 1, "name"),
    LockRequest(1, 1, 1, "name", 1.5),
    LockRelease(1, 1, 1),
    LogMessage([Chunk(1, 1, 1, 2, True, LINES)]),
]
DEEP = b"[" * 10_000 + b"]" * 10_000
BAD: list[Any] = [
    *(
        Ends([End(1, 1, EndKind.COMPLETED, data)])
        for data in (b"", b"\xff", b'"\xff"', b"nul", b"1}],[{", DEEP, b"1" * 100_001)
    ),
    *(Ends([End(1, 1, EndKind.FAILED, data)]) for data in (b"\xff", b"\x00", b"x" * 10_001, b"\xed\xa0\x80")),
    *(Ends([End(1, 1, EndKind.FAILED, b"", None, data)]) for data in (b"\xff", b"\x00", b"x" * 10_001)),
    *(Ends([End(1, 1, EndKind.SNOOZED, b"", again)]) for again in (float("nan"), float("inf"), -1.0, 1e300)),
    Ends([End(1, 1, EndKind.FAILED, b"", datetime(2026, 1, 1))]),
    *(Ends([End(job_id, 1, EndKind.COMPLETED, b"1")]) for job_id in (-1, 2**63)),
    *(Ends([], lost) for lost in (-1, 2**63)),
    *(Ends([End(1, attempt, EndKind.COMPLETED, b"1")]) for attempt in (-1, 2**31)),
    Ends([End(1, 1, EndKind.COMPLETED, b"1", output=Chunk(2, 1, 1, 2, False, LINES))]),
    *(
        NoteMessage(1, 1, 0, progress=data)
        for data in (b"\xff", b"1", b"{}", b'{"attempt":1,"fraction":2}', b'{"attempt":2,"fraction":0}')
    ),
    NoteMessage(1, 1, 0, progress=b'{"attempt":1,"fraction":0,"message":"\\u0000"}'),
    *(NoteMessage(1, 1, 1, checkpoint=data) for data in (b"", b"\xff", b'"\xff"', b"1,2", DEEP, b"1" * 100_001)),
    NoteMessage(1, 1, -1, checkpoint=b"1"),
    *(LockRequest(1, 1, 1, name) for name in ("", "\0", "x" * 1001)),
    *(LockRequest(1, 1, 1, "x", wait) for wait in (-1.0, float("nan"), float("inf"), 1e300)),
    LockRelease(1, 1, -1),
    *(LogMessage([Chunk(1, 1, 1, lines, False, LINES)]) for lines in (0, 1, 3, -1, 2**40)),
    *(LogMessage([Chunk(1, 1, line, 2, False, LINES)]) for line in (-1, 2**31, 2**31 - 1)),
    *(
        LogMessage([Chunk(1, 1, 1, 1, False, body)])
        for body in (b"", b"\xff", b"[]", b"[1]", DEEP, b'[[1e300,"log","",""]]')
    ),
    LogMessage([Chunk(1, 1, 1, 1, False, b'[[1,"else","",""]]')]),
    Ready(["x"] * 10_001),
    *(Ready([name]) for name in ("", "a\nb", "\x1b[2J", "x" * 501)),
    *(Ready(["x"], {"x": seconds}) for seconds in (0.0, -1.0, float("nan"), float("inf"), 1e300)),
    Unusable("x" * 100_001),
]


@pytest.mark.parametrize("message", GOOD)
def test_messages_of_an_executor_are_decoded(message: ToWorker) -> None:
    assert decode(msgspec.msgpack.encode(message), LIMITS) == message


@pytest.mark.parametrize("message", BAD, ids=range(len(BAD)))
def test_a_message_that_no_executor_sends_breaks_the_stream(message: Any) -> None:
    with pytest.raises(BrokenStream):
        decode(msgspec.msgpack.encode(message), LIMITS)


@pytest.mark.parametrize(
    "frame",
    [
        *(b"", b"\xff", b"\xc1", b"\x91\xff", b"\x94\x04\x91\xa1\xff\x80"),
        b"\x92\x06" + b"\x91" * 100_000 + b"\x01",
        b"\x95\x06\x90" + b"\x91" * 100_000 + b"\x01",
        b"\x93\x04\xdd\xff\xff\xff\xff",
    ],
)
def test_bytes_that_are_no_message_break_the_stream(frame: bytes) -> None:
    with pytest.raises(BrokenStream):
        decode(frame, LIMITS)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.binary(max_size=20)
    | st.text(max_size=10)
    | st.sampled_from([LINES, b"1", b'{"attempt":1,"fraction":1}']),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=12,
)
MESSAGES = st.one_of(
    st.binary(max_size=100),
    st.lists(VALUES, max_size=7).map(msgspec.msgpack.encode),
    st.builds(lambda tag, rest: msgspec.msgpack.encode([tag, *rest]), st.integers(0, 12), st.lists(VALUES, max_size=6)),
    st.builds(lambda end: msgspec.msgpack.encode([6, [[1, 1, 0, b"1", *end]]]), st.lists(VALUES, max_size=4)),
    st.builds(lambda chunk: msgspec.msgpack.encode([11, [[1, 1, *chunk]]]), st.lists(VALUES, min_size=3, max_size=5)),
)


@given(MESSAGES)
def test_any_frame_is_a_message_that_can_be_stored_or_breaks_the_stream(frame: bytes) -> None:
    try:
        message = decode(frame, LIMITS)
    except BrokenStream:
        return
    if isinstance(message, Ends):
        for end in message.ends:
            assert 0 <= end.job_id < 2**63
            end.data.decode()
            end.traceback.decode()


@given(st.text(max_size=300) | st.text("ž🐎\0", min_size=200, max_size=2000), st.integers(0, 300))
def test_a_shortened_text_is_clean_utf8_within_its_limit(text: str, limit: int) -> None:
    data = to_text(text, limit)
    assert len(data) <= limit
    assert "\0" not in data.decode()


@given(st.text(min_size=100, max_size=3000), st.integers(1, 400))
def test_an_end_that_an_executor_makes_is_received(text: str, limit: int) -> None:
    end = ResultEncoder(100_000, limit).failed(order(), text)
    assert decode(msgspec.msgpack.encode(Ends([end])), Limits(100_000, limit)) == Ends([end])


def test_lines_that_cannot_be_stored_are_left_out() -> None:
    good = Chunk(1, 1, 1, 2, False, LINES)
    assert storable([good, Chunk(1, 1, -5, 2, False, LINES), Chunk(1, 1, 1, 9, False, LINES)]) == [good]
