"""What the worker and an executor tell each other: msgpack messages, each after its length (4 bytes, big-endian)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from datetime import datetime
from enum import IntEnum

import msgspec

from taskd.seams import Order

_LENGTH = struct.Struct(">I")


class Setup(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """To an executor, first: what to load and what its limits are."""

    app: str
    slots: int
    max_result_bytes: int
    max_error_bytes: int
    worker_id: str
    log_level: str
    log_format: str


class Begin(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """To an executor: run these attempts."""

    orders: list[Order]


class Halt(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """To an executor: stop this attempt."""

    job_id: int
    attempt: int


class Bye(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """To an executor: exit in good order."""


class Ready(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """From an executor: the app is loaded and has these tasks; `timeouts` (seconds) of those whose definition has one."""

    tasks: list[str]
    timeouts: dict[str, float] = {}


class Unusable(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """From an executor: the app cannot be loaded, and why, in one line."""

    reason: str


class How(IntEnum):
    """How an attempt ended inside its executor."""

    COMPLETED = 0
    FAILED = 1
    FAILED_FOR_GOOD = 2
    STOPPED = 3


class End(msgspec.Struct, frozen=True, array_like=True):
    """One attempt's end: `data` is the result's JSON or the error's text (UTF-8)."""

    job_id: int
    attempt: int
    how: How
    data: bytes = b""
    again_at: datetime | None = None


class Ends(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """From an executor: these attempts ended."""

    ends: list[End]


ToExecutor = Setup | Begin | Halt | Bye
ToWorker = Ready | Unusable | Ends

_encoder = msgspec.msgpack.Encoder()


def encode(message: ToExecutor | ToWorker) -> bytes:
    """A message as a frame. Raises OverflowError for an integer beyond 64 bits."""
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


class Frames:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The bodies that are complete with `data`."""
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, start)
            end = start + _LENGTH.size + length
            if len(buffer) < end:
                break
            yield bytes(buffer[start + _LENGTH.size : end])
            start = end
        del buffer[:start]
