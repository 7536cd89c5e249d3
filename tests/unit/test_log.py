"""Tests of the lines that a process writes to stderr."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator

import pytest
import structlog

from taskd.runtime import log
from taskd.settings import LogSettings


class Recorder(io.StringIO):
    """A stderr that keeps each write apart."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []

    def write(self, text: str) -> int:
        self.writes.append(text)
        return len(text)


class Unprintable:
    """A value whose text cannot be made."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.fixture(params=["TEXT", "JSON"])
def recorder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """Stderr of a process that logs in either format."""
    recorder, configured = Recorder(), structlog.get_config()
    monkeypatch.setattr(sys, "stderr", recorder)
    log.configure(LogSettings(format=request.param))
    yield recorder
    structlog.configure(**configured)


def test_a_value_that_cannot_be_shown_does_not_cost_its_line(recorder: Recorder) -> None:
    log.logger().info("something", job=17, value=Unprintable())
    (line,) = recorder.writes
    assert "something" in line
    assert "17" in line


def test_a_line_is_one_write_so_that_processes_with_one_stderr_do_not_mix_theirs(recorder: Recorder) -> None:
    for number in range(3):
        log.logger().info("something", number=number)
    assert len(recorder.writes) == 3
    assert all(line.count("\n") == 1 and line.endswith("\n") for line in recorder.writes)
