"""The output of attempts (log and standard streams) as numbered lines. A missing number is a line that was left out."""

from __future__ import annotations

from typing import Literal, NamedTuple
from uuid import UUID

import msgspec

from taskd.domain.job import AttemptId

#: The stream that a line was written to. `taskd` is for lines about lines that were left out.
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
    def attempt_id(self) -> AttemptId:
        """The attempt's identity."""
        return AttemptId(self.job_id, self.attempt)

    @property
    def last(self) -> int:
        """The number of the last line."""
        return self.line + self.lines - 1


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """New chunks of one attempt, under its claim. Stored chunks that begin from `gone[0]` to below `gone[1]` are deleted."""

    job_id: int
    attempt: int
    session: UUID
    chunks: list[Chunk]
    gone: tuple[int, int] = (0, 0)


class LogPosition(NamedTuple):
    """The last line that a reader has: its attempt and its number."""

    attempt: int = 0
    line: int = 0


class StoredChunk(msgspec.Struct, frozen=True):
    """A chunk as PostgreSQL has it."""

    attempt: int
    line: int
    body: list[Line]
