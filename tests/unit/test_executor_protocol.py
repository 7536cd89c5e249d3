"""Tests of the frames between the worker and an executor."""

from __future__ import annotations

import random

import msgspec
import pytest

from taskd.worker.pool.protocol import (
    MAX_FRAME,
    BrokenStream,
    Cancel,
    End,
    EndKind,
    Ends,
    FrameSplitter,
    ToExecutor,
    TooLong,
    encode,
)


def test_frames_survive_any_cutting_of_the_stream() -> None:
    messages = [Cancel(number, attempt) for number in range(50) for attempt in (1, 2**40)]
    stream = b"".join(map(encode, messages))
    draw = random.Random(3)
    frames, bodies = FrameSplitter(), list[bytes]()
    while stream:
        size = draw.randrange(1, 40)
        bodies += frames.feed(stream[:size])
        stream = stream[size:]
    assert [msgspec.msgpack.decode(body, type=ToExecutor) for body in bodies] == messages


def test_an_impossible_length_breaks_the_stream_at_once() -> None:
    with pytest.raises(BrokenStream, match=str(MAX_FRAME)):
        list(FrameSplitter().feed(b"HTTP/1.1 200 OK"))


def test_the_frames_before_a_broken_one_are_read() -> None:
    good = encode(Cancel(1, 2))
    bodies = FrameSplitter().feed(good + b"\xff" * 4)
    assert next(bodies) == good[4:]
    with pytest.raises(BrokenStream):
        next(bodies)


def test_a_message_that_fits_no_frame_is_not_sent() -> None:
    with pytest.raises(TooLong, match=str(MAX_FRAME)):
        encode(Ends([End(1, 1, EndKind.COMPLETED, bytes(MAX_FRAME))]))
