"""What a process writes to stderr."""

from __future__ import annotations

import io
import sys
from typing import Literal

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


class Shy:
    """A value that nobody may look at."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize("form", ["TEXT", "JSON"])
def test_a_value_that_cannot_be_shown_costs_itself_and_not_the_line(
    form: Literal["TEXT", "JSON"], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, configured = Recorder(), structlog.get_config()
    monkeypatch.setattr(sys, "stderr", recorder)
    log.configure(LogSettings(format=form))
    try:
        log.logger().info("something", job=17, shy=Shy())
    finally:
        structlog.configure(**configured)
    (line,) = recorder.writes
    assert "something" in line
    assert "17" in line


@pytest.mark.parametrize("form", ["TEXT", "JSON"])
def test_a_line_is_one_write_so_that_processes_with_one_stderr_do_not_mix_theirs(
    form: Literal["TEXT", "JSON"], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, configured = Recorder(), structlog.get_config()
    monkeypatch.setattr(sys, "stderr", recorder)
    log.configure(LogSettings(format=form))
    try:
        for number in range(3):
            log.logger().info("something", number=number)
    finally:
        structlog.configure(**configured)
    assert len(recorder.writes) == 3
    assert all(line.count("\n") == 1 and line.endswith("\n") for line in recorder.writes)
