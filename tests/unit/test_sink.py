"""Tests of a sink that cannot take a line: its lines, and the process that writes them."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from taskd.runtime.sink import MOST, Sink
from taskd.runtime.stdio import Steady
from tests.servers import wait_until

LINE = b"x" * 99 + b"\n"


class Pair:
    """A sink, and the reading end of what it writes to."""

    def __init__(self, ours: int, theirs: int, patience: float | None = 0.0) -> None:
        self.theirs = theirs
        self.sink = Sink(ours, patience)
        os.close(ours)
        self.seen = b""

    def read(self) -> bytes:
        self.seen += os.read(self.theirs, 2**20)
        return self.seen

    def read_until(self, sign: bytes) -> bytes:
        wait_until(lambda: sign in self.read(), 20)
        return self.seen

    def hang_up(self) -> None:
        os.close(self.theirs)
        self.theirs = -1


@contextmanager
def pair(kind: str, patience: float | None = 0.0) -> Iterator[Pair]:
    if kind == "socket":
        ours, theirs = (half.detach() for half in socket.socketpair())
    elif kind == "terminal":
        theirs, ours = os.openpty()
    else:
        theirs, ours = os.pipe()
        os.set_blocking(ours, kind != "pipe with O_NONBLOCK")
    pair_ = Pair(ours, theirs, patience)
    yield pair_
    if pair_.theirs >= 0:
        pair_.hang_up()


KINDS = ["pipe", "pipe with O_NONBLOCK", "socket", "terminal"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_that_stalls_holds_up_no_writer_and_gets_everything_that_fits_later(kind: str) -> None:
    with pair(kind) as log:
        began = time.monotonic()
        for _ in range(3 * MOST // len(LINE)):
            log.sink.write(LINE)
        assert time.monotonic() - began < 5
        lost = log.sink.lost
        assert lost > MOST // len(LINE)
        seen = log.read_until(b"lines of the log were lost").replace(b"\r\n", b"\n")
        assert seen.count(LINE) == 3 * MOST // len(LINE) - lost
        assert f"{lost} lines".encode() in seen
        log.sink.write(b"again\n")
        log.read_until(b"again")


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_that_is_gone_costs_its_lines_only(kind: str) -> None:
    with pair(kind) as log:
        log.sink.write(b"heard\n")
        log.read_until(b"heard")
        log.hang_up()
        for _ in range(5):
            log.sink.write(LINE)
        assert log.sink.lost == 5


def test_the_original_of_a_pipe_stays_blocking() -> None:
    """O_NONBLOCK on it would reach every process that shares the pipe."""
    theirs, ours = os.pipe()
    sink = Sink(ours, 0.0)
    assert os.get_blocking(ours)
    assert sink.fd != sink.spare
    assert not os.get_blocking(sink.fd)
    for fd in (theirs, ours):
        os.close(fd)


def test_a_pipe_that_cannot_be_opened_again_is_written_to_while_it_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipe of another user is such a one."""

    def refused(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "open", refused)
    with pair("pipe") as log:
        monkeypatch.undo()
        assert log.sink.fd == log.sink.spare
        for number in range(3000):
            log.sink.write(b"%d %s" % (number, LINE))
        log.read_until(b"2999 ")
        assert log.sink.lost == 0
        assert [int(n) for n in re.findall(rb"^(\d+) ", log.seen, re.M)] == list(range(3000))


def test_a_sink_with_patience_waits_for_a_slow_reader_and_not_for_one_that_stalls() -> None:
    with pair("pipe", patience=0.2) as log:
        reader = subprocess.Popen(
            [sys.executable, "-c", "import os, sys\nwhile os.read(0, 100_000): pass"], stdin=log.theirs
        )
        for _ in range(5 * MOST // len(LINE)):
            log.sink.write(LINE)
        log.sink.write(LINE * (3 * MOST // len(LINE)))  # at once
        assert log.sink.lost == 0
        reader.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        for _ in range(5 * MOST // len(LINE)):
            log.sink.write(LINE)
        assert time.monotonic() - began < 10
        assert log.sink.lost
        reader.send_signal(signal.SIGCONT)
        wait_until(lambda: not log.sink._backlog, 20)
        lost = log.sink.lost
        for _ in range(5 * MOST // len(LINE)):
            log.sink.write(LINE)
        assert log.sink.lost == lost, "the sink waits for its reader again"
        reader.kill()
        reader.wait()


def test_a_full_disk_takes_lines_again_when_it_has_room_and_the_log_says_how_many_were_lost(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: its write fails in the same way."""
    file = tmp_path / "log"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sink = Sink(fd, 0.0)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (250, hard))
        for _ in range(5):
            sink.write(LINE)
        assert sink.lost == 3
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    sink.write(b"again\n")
    first, second, torn, notice, again = file.read_bytes().splitlines(keepends=True)
    assert first == second == LINE
    assert torn == b"x" * 50 + b"\n"
    assert notice.startswith(b"taskd: 3 lines of the log were lost")
    assert again == b"again\n"
    os.close(fd)


def test_a_child_of_a_fork_writes_to_its_own_descriptor(tmp_path: Path) -> None:
    program = f"""
import os, sys
from taskd.runtime import stdio
stdio.steady()
if os.fork() == 0:
    os.dup2(os.open({str(tmp_path / "child")!r}, os.O_WRONLY | os.O_CREAT), 1)
    print("child")
    os._exit(0)
os.wait()
print("parent")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "parent\n", "")
    assert (tmp_path / "child").read_text() == "child\n"


@pytest.fixture
def steady(tmp_path: Path) -> Iterator[tuple[Steady, Path]]:
    with open(tmp_path / "out", "w") as file:
        yield Steady(Sink(file.fileno(), 0.0), 1, file), tmp_path / "out"


def test_a_standard_stream_survives_close_and_detach(steady: tuple[Steady, Path]) -> None:
    stream, file = steady
    stream.close()
    stream.buffer.close()
    stream.detach()
    with stream:
        stream.write("in\n")
    stream.detach().close()
    stream.write("out \u2713\n")
    assert file.read_text() == "in\nout \u2713\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors_lead_to_dev_null_before_anything_else_is_opened(closed: str, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    program = f"""
import os, sys
sys.argv = ["taskd", "--version"]
import taskd.__main__ as entry
code = None
try:
    entry.main()
except SystemExit as ended:
    code = ended.code
null = os.stat(os.devnull)
print("into", file=sys.stderr)
print("into", file=sys.stdout)
sys.stdin.read()
with open({str(seen)!r}, "w") as file:
    file.write(repr((code, [os.path.samestat(os.fstat(n), null) for n in range(3)])))
"""
    ended = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        capture_output=True,
    )
    shut = ["<&-" in closed, " >" in f" {closed}", "2>" in closed]
    assert ended.returncode == 0, ended.stderr
    assert seen.read_text() == repr((0, shut))
    assert (ended.stdout[-5:] == b"into\n") is not shut[1]
    assert (ended.stderr == b"into\n") is not shut[2]


@pytest.mark.parametrize(("redirect", "code"), [("2>/dev/full", 2), (">/dev/full", 1), (">/dev/full 2>/dev/full", 1)])
def test_a_command_whose_messages_cannot_be_written_keeps_its_exit_status(redirect: str, code: int) -> None:
    """An unknown option is the same failure without a place to report it. Lost output is a failure."""
    arguments = ["--help"] if code == 1 else ["status", "--nonsense"]
    ended = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {redirect}', "sh", sys.executable, "-m", "taskd", *arguments],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == code
    if redirect == ">/dev/full":
        assert ended.stderr == "error: [Errno 28] No space left on device\n"
