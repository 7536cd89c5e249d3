"""What attempts log and print, as lines with numbers: a number that is missing was left out."""

from __future__ import annotations

from typing import Literal, NamedTuple
from uuid import UUID

import msgspec

#: Where a line comes from; `taskd` says what happened to the others.
Source = Literal["log", "stdout", "stderr", "taskd"]


class Line(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One line; `at` is Unix seconds by the executor's clock, `level` (of log lines) in small letters."""

    at: float
    source: Source
    level: str
    text: str


class Chunk(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Consecutive lines of one attempt, from number `line` on; `body` is a JSON array of them.

    The first part of an attempt's output stays. Chunks of the last part (`tail`) make way for newer ones.
    """

    job_id: int
    attempt: int
    line: int
    lines: int
    tail: bool
    body: bytes

    @property
    def last(self) -> int:
        """The number of its last line."""
        return self.line + self.lines - 1


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """New chunks of one attempt, under its claim; stored ones that begin from `gone[0]` to below `gone[1]` make way."""

    job_id: int
    attempt: int
    session: UUID
    chunks: list[Chunk]
    gone: tuple[int, int] = (0, 0)


class LogPosition(NamedTuple):
    """Up to where somebody has read: the attempt and its line."""

    attempt: int = 0
    line: int = 0


class Stored(msgspec.Struct, frozen=True):
    """A chunk as it is read again."""

    attempt: int
    line: int
    body: list[Line]
