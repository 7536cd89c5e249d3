"""Test the capture of output inside an executor: its attempt, its order, and how much of it is kept."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from taskd.domain.output import Chunk, Line
from taskd.executor import capture as module
from taskd.executor.capture import Capture, OutputBuffer, attribute_output, tap
from taskd.runtime.sink import Sink
from taskd.runtime.stdio import Steady
from taskd.worker.pool import crash_buffer
from taskd.worker.pool.crash_buffer import CrashBuffer, CrashEntry
from tests.servers import wait_until_async
from tests.unit.claims import order

LIMIT = 20_000


class Harness:
    """A capture, its crash buffer, and the chunks that it sent."""

    def __init__(self) -> None:
        self.fd = crash_buffer.create()
        self.sent: list[Chunk] = []
        self.capture = Capture(LIMIT, CrashBuffer(self.fd), self.sent.extend)

    def buffer(self, job_id: int) -> OutputBuffer:
        buffer = self.capture.buffer(order(job_id))
        assert buffer is not None
        return buffer

    def lines(self, job_id: int) -> list[tuple[int, str, str, str]]:
        self.capture.flush()
        return [
            (number, line.source, line.level, line.text)
            for chunk in self.sent
            if chunk.job_id == job_id
            for number, line in enumerate(msgspec.json.decode(chunk.body, type=list[Line]), chunk.line)
        ]

    def texts(self, job_id: int) -> list[str]:
        return [text for _, _, _, text in self.lines(job_id)]


@pytest.fixture
async def harness() -> Harness:
    return Harness()


@contextmanager
def installed(harness: Harness, folder: Path) -> Iterator[None]:
    """Install the capture for a block of the test only: pytest has other streams before and after."""
    before = sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__
    with open(folder / "out", "w") as out, open(folder / "err", "w") as err:
        sys.stdout, sys.stderr = (Steady(Sink(file.fileno(), 1.0), n, file) for n, file in enumerate((out, err), 1))
        harness.capture.install("INFO")
        try:
            yield
        finally:
            harness.capture.uninstall()
            sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__ = before  # type: ignore[misc]


async def test_output_belongs_to_the_attempt_of_its_context(harness: Harness, tmp_path: Path) -> None:
    buffers = {n: harness.buffer(n) for n in (1, 2, 3)}

    async def task(number: int) -> None:
        attribute_output(lambda: buffers[number])
        print("hello from", number)
        await asyncio.sleep(0)
        await asyncio.create_task(child(number))
        await asyncio.to_thread(print, "thread of", number, file=sys.stderr)
        logging.getLogger("shop").info("logged by %d", number)
        logging.getLogger("shop").debug("not this")

    async def child(number: int) -> None:
        print("child of", number)

    with installed(harness, tmp_path):
        await asyncio.gather(task(1), task(2))
        thread = threading.Thread(target=lambda: contextvars.Context().run(print, "of no attempt"))
        thread.start()
        thread.join()
        print("of no attempt")
    assert (tmp_path / "out").read_text().count("of no attempt") == 2
    assert "hello from 1\n" in (tmp_path / "out").read_text(), "the worker's log has it too"
    for number in (1, 2):
        assert harness.lines(number) == [
            (1, "stdout", "", f"hello from {number}"),
            (2, "stdout", "", f"child of {number}"),
            (3, "stderr", "", f"thread of {number}"),
            (4, "log", "info", f"shop: logged by {number}"),
        ]
    assert harness.lines(3) == []


async def test_lines_of_taskds_logger_are_kept_without_the_common_fields(harness: Harness) -> None:
    buffer = harness.buffer(1)

    async def task() -> None:
        attribute_output(lambda: buffer)
        tap(None, "info", {"event": "sized", "level": "info", "role": "executor", "job": 1, "task": "t", "width": 3})
        try:
            int("boom")
        except ValueError:
            tap(None, "error", {"event": "failed", "level": "error", "exc_info": True, "name": "a b"})

    await asyncio.create_task(task())
    first, second = harness.lines(1)
    assert first == (1, "log", "info", "sized width=3")
    assert second[3].startswith("failed name='a b'\nTraceback")
    assert second[3].endswith("with base 10: 'boom'")


async def test_lines_are_put_together_and_a_progress_bar_is_one(harness: Harness) -> None:
    buffer = harness.buffer(1)
    for part in ("a", " b", "\nc\nd", "\r10%", "\r20%", "\r30%\n", "the end"):
        buffer.write("stdout", part)
    assert harness.texts(1) == ["a b", "c", "30%"]
    buffer.close()
    assert harness.texts(1)[-1] == "the end"


async def test_of_much_the_first_and_the_last_part_are_kept_and_numbers_say_how_much_is_missing(
    harness: Harness,
) -> None:
    buffer = harness.buffer(1)
    for number in range(1, 50_001):
        buffer.add("stdout", "", f"line {number}")
    lines = harness.lines(1)
    numbers = [number for number, *_ in lines]
    assert numbers[0] == 1
    assert numbers[-1] == 50_000
    assert all(text == f"line {number}" for number, _, _, text in lines)
    assert numbers == sorted(set(numbers))
    first = next(n for n, number in enumerate(numbers, 1) if number != n)
    assert first > 50
    assert len(numbers) - first > 50
    assert sum(len(chunk.body) for chunk in harness.sent) < 1.5 * LIMIT
    assert max(chunk.lines for chunk in harness.sent) < 2**15


@pytest.mark.parametrize("text", ["x" * 100_000, "\ud800", "a\0b", "\u2713" * 10_000])
async def test_any_text_can_be_stored(harness: Harness, text: str) -> None:
    buffer = harness.buffer(1)
    buffer.write("stdout", text)
    buffer.close()
    (stored,) = harness.texts(1)
    assert len(stored.encode()) <= module.MAX_LINE
    assert "\0" not in stored


class Markup(str):
    """A subclass of str that splits in its own way, as some libraries have."""

    __slots__ = ()

    def split(self, *_: object) -> list[str]:
        return [Markup(part) for part in super().split("\n")]


async def test_a_subclass_of_str_is_text_like_any_other(harness: Harness) -> None:
    buffer = harness.buffer(1)
    buffer.write("stdout", Markup("one\ntwo"))
    buffer.write("stdout", Markup("\n"))
    assert harness.texts(1) == ["one", "two"]


async def test_a_crash_leaves_the_unsent_lines_and_those_sent_just_before(harness: Harness) -> None:
    buffer = harness.buffer(7)
    buffer.add("stdout", "", "sent")
    harness.capture.flush()
    harness.capture._crash_buffer.turn()
    buffer.add("log", "info", "not sent \u2713")
    entries = crash_buffer.read(harness.fd)
    assert [(*entry.attempt_id, entry.number, entry.line.text) for entry in entries] == [
        (7, 1, 1, "sent"),
        (7, 1, 2, "not sent \u2713"),
    ]


async def test_the_crash_buffer_has_the_newest_lines_and_nonsense_in_it_does_no_harm(harness: Harness) -> None:
    buffer = harness.buffer(7)
    for number in range(1, 10_001):
        buffer.add("stdout", "", f"line {number} " + "x" * 50)
    entries = crash_buffer.read(harness.fd)
    assert [entry.number for entry in entries] == list(range(entries[0].number, 10_001))
    os.pwrite(harness.fd, b"\xff" * crash_buffer.HALF, 0)
    os.pwrite(harness.fd, os.urandom(crash_buffer.HALF), crash_buffer.HALF)
    assert all(isinstance(entry, CrashEntry) for entry in crash_buffer.read(harness.fd))
    deep = b"\0" * crash_buffer._REST.size + b"[" * 100_000
    os.pwrite(harness.fd, struct.pack("=II", len(deep) + 4, len(deep)) + deep, 0)
    assert all(isinstance(entry, CrashEntry) for entry in crash_buffer.read(harness.fd))


async def test_a_line_is_sent_soon(harness: Harness) -> None:
    harness.buffer(1).add("stdout", "", "soon")
    await wait_until_async(lambda: harness.sent)
    assert harness.texts(1) == ["soon"]
    assert len(harness.sent) == 1


async def test_the_last_lines_are_sent_once(harness: Harness) -> None:
    buffer = harness.buffer(1)
    buffer.add("stdout", "", "sent")
    harness.capture.flush()
    buffer.add("stdout", "", "not sent")
    last = harness.capture.take_rest(buffer)
    assert last is not None
    assert (last.line, last.lines) == (2, 1)
    assert harness.capture.take_rest(buffer) is None
    assert harness.texts(1) == ["sent"]


async def test_more_than_a_chunk_is_sent_before_the_end(harness: Harness) -> None:
    buffer = harness.buffer(1)
    for number in range(3):
        buffer.add("stdout", "", f"{number}" * module.MAX_LINE)
    assert harness.capture.take_rest(buffer) is None
    assert [text[0] for text in harness.texts(1)] == ["0", "1", "2"]


async def test_buffers_may_be_made_while_others_are_sent(harness: Harness) -> None:
    over, interval = threading.Event(), sys.getswitchinterval()

    def write(first: int) -> None:
        for job in range(first, first + 3000):
            harness.buffer(job).add("stdout", "", "hello")

    async def send() -> None:
        while not over.is_set():
            harness.capture.flush()
            await asyncio.sleep(0)

    sys.setswitchinterval(1e-6)
    try:
        sending = asyncio.create_task(send())
        await asyncio.gather(*(asyncio.to_thread(write, first) for first in (0, 10_000, 20_000)))
        over.set()
        await sending
    finally:
        sys.setswitchinterval(interval)
    harness.capture.flush()
    assert sum(chunk.lines for chunk in harness.sent) == 9000


def test_a_line_that_is_written_while_another_is_kept_does_not_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A finalizer or a signal handler may do that."""
    buffer = CrashBuffer(crash_buffer.create())
    line = msgspec.json.encode(Line(0.0, "stdout", "", "x" * 4000))
    switch = buffer._switch

    def interrupted() -> None:
        buffer.write(1, 1, 1, line, tail=False)
        switch()

    def write() -> None:
        for _ in range(100):
            buffer.write(1, 1, 1, line, tail=False)

    monkeypatch.setattr(buffer, "_switch", interrupted)
    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
