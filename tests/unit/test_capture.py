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
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from taskd.domain.job import JobInfo
from taskd.domain.output import Chunk, Line
from taskd.executor import capture as module
from taskd.executor.capture import Capture, OutputBuffer, attribute_output, tap
from taskd.runtime.sink import Sink
from taskd.runtime.stdio import Steady
from taskd.seams import Order
from taskd.worker.pool import crash_buffer
from taskd.worker.pool.crash_buffer import CrashBuffer, CrashEntry
from tests.servers import wait_until_async

NOW = datetime.now(UTC)
LIMIT = 20_000


def order(job_id: int) -> Order:
    return Order(JobInfo(job_id, "t", "default", 0, b"{}", NOW, NOW, None, {}, 3, 0, "w"), 1)


class World:
    def __init__(self) -> None:
        self.fd = crash_buffer.create()
        self.told: list[Chunk] = []
        self.capture = Capture(LIMIT, CrashBuffer(self.fd), self.told.extend)

    def buffer(self, job_id: int) -> OutputBuffer:
        found = self.capture.buffer(order(job_id))
        assert found is not None
        return found

    def lines(self, job_id: int) -> list[tuple[int, str, str, str]]:
        self.capture.flush()
        return [
            (number, line.source, line.level, line.text)
            for chunk in self.told
            if chunk.job_id == job_id
            for number, line in enumerate(msgspec.json.decode(chunk.body, type=list[Line]), chunk.line)
        ]

    def texts(self, job_id: int) -> list[str]:
        return [text for _, _, _, text in self.lines(job_id)]


@pytest.fixture
async def world() -> World:
    return World()


@contextmanager
def installed(world: World, folder: Path) -> Iterator[None]:
    """Install the capture for a block of the test only: pytest has other streams before and after."""
    before = sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__
    with open(folder / "out", "w") as out, open(folder / "err", "w") as err:
        sys.stdout, sys.stderr = (Steady(Sink(file.fileno(), 1.0), n, file) for n, file in enumerate((out, err), 1))
        world.capture.install("INFO")
        try:
            yield
        finally:
            world.capture.uninstall()
            sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__ = before  # type: ignore[misc]


async def test_output_belongs_to_the_attempt_of_its_context(world: World, tmp_path: Path) -> None:
    buffers = {n: world.buffer(n) for n in (1, 2, 3)}

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

    with installed(world, tmp_path):
        await asyncio.gather(task(1), task(2))
        thread = threading.Thread(target=lambda: contextvars.Context().run(print, "of no attempt"))
        thread.start()
        thread.join()
        print("of no attempt")
    assert (tmp_path / "out").read_text().count("of no attempt") == 2
    assert "hello from 1\n" in (tmp_path / "out").read_text(), "the worker's log has it too"
    for number in (1, 2):
        assert world.lines(number) == [
            (1, "stdout", "", f"hello from {number}"),
            (2, "stdout", "", f"child of {number}"),
            (3, "stderr", "", f"thread of {number}"),
            (4, "log", "info", f"shop: logged by {number}"),
        ]
    assert world.lines(3) == []


async def test_lines_of_taskds_logger_are_kept_without_the_common_fields(world: World) -> None:
    buffer = world.buffer(1)

    async def task() -> None:
        attribute_output(lambda: buffer)
        tap(None, "info", {"event": "sized", "level": "info", "role": "executor", "job": 1, "task": "t", "width": 3})
        try:
            int("boom")
        except ValueError:
            tap(None, "error", {"event": "failed", "level": "error", "exc_info": True, "name": "a b"})

    await asyncio.create_task(task())
    first, second = world.lines(1)
    assert first == (1, "log", "info", "sized width=3")
    assert second[3].startswith("failed name='a b'\nTraceback")
    assert second[3].endswith("with base 10: 'boom'")


async def test_lines_are_put_together_and_a_progress_bar_is_one(world: World) -> None:
    buffer = world.buffer(1)
    for part in ("a", " b", "\nc\nd", "\r10%", "\r20%", "\r30%\n", "the end"):
        buffer.write("stdout", part)
    assert world.texts(1) == ["a b", "c", "30%"]
    buffer.close()
    assert world.texts(1)[-1] == "the end"


async def test_of_much_the_first_and_the_last_part_are_kept_and_numbers_say_how_much_is_missing(world: World) -> None:
    buffer = world.buffer(1)
    for number in range(1, 50_001):
        buffer.add("stdout", "", f"line {number}")
    lines = world.lines(1)
    numbers = [number for number, *_ in lines]
    assert numbers[0] == 1
    assert numbers[-1] == 50_000
    assert all(text == f"line {number}" for number, _, _, text in lines)
    assert numbers == sorted(set(numbers))
    first = next(n for n, number in enumerate(numbers, 1) if number != n)
    assert first > 50
    assert len(numbers) - first > 50
    assert sum(len(chunk.body) for chunk in world.told) < 1.5 * LIMIT
    assert max(chunk.lines for chunk in world.told) < 2**15


@pytest.mark.parametrize("text", ["x" * 100_000, "\ud800", "a\0b", "\u2713" * 10_000])
async def test_any_text_can_be_stored(world: World, text: str) -> None:
    buffer = world.buffer(1)
    buffer.write("stdout", text)
    buffer.close()
    (said,) = world.texts(1)
    assert len(said.encode()) <= module.MAX_LINE
    assert "\0" not in said


class Markup(str):
    """A subclass of str that splits in its own way, as some libraries have."""

    __slots__ = ()

    def split(self, *_: object) -> list[str]:
        return [Markup(part) for part in super().split("\n")]


async def test_a_subclass_of_str_is_text_like_any_other(world: World) -> None:
    buffer = world.buffer(1)
    buffer.write("stdout", Markup("one\ntwo"))
    buffer.write("stdout", Markup("\n"))
    assert world.texts(1) == ["one", "two"]


async def test_a_crash_leaves_the_unsent_lines_and_those_sent_just_before(world: World) -> None:
    buffer = world.buffer(7)
    buffer.add("stdout", "", "told")
    world.capture.flush()
    world.capture._crash_buffer.turn()
    buffer.add("log", "info", "not told \u2713")
    words = crash_buffer.read(world.fd)
    assert [(*w.attempt_id, w.number, w.line.text) for w in words] == [
        (7, 1, 1, "told"),
        (7, 1, 2, "not told \u2713"),
    ]


async def test_the_crash_buffer_has_the_newest_lines_and_nonsense_in_it_does_no_harm(world: World) -> None:
    buffer = world.buffer(7)
    for number in range(1, 10_001):
        buffer.add("stdout", "", f"line {number} " + "x" * 50)
    words = crash_buffer.read(world.fd)
    assert [word.number for word in words] == list(range(words[0].number, 10_001))
    os.pwrite(world.fd, b"\xff" * crash_buffer.HALF, 0)
    os.pwrite(world.fd, os.urandom(crash_buffer.HALF), crash_buffer.HALF)
    assert all(isinstance(word, CrashEntry) for word in crash_buffer.read(world.fd))
    deep = b"\0" * crash_buffer._REST.size + b"[" * 100_000
    os.pwrite(world.fd, struct.pack("=II", len(deep) + 4, len(deep)) + deep, 0)
    assert all(isinstance(word, CrashEntry) for word in crash_buffer.read(world.fd))


async def test_a_line_is_sent_soon(world: World) -> None:
    world.buffer(1).add("stdout", "", "soon")
    await wait_until_async(lambda: world.told)
    assert world.texts(1) == ["soon"]
    assert len(world.told) == 1


async def test_the_last_lines_are_sent_once(world: World) -> None:
    buffer = world.buffer(1)
    buffer.add("stdout", "", "told")
    world.capture.flush()
    buffer.add("stdout", "", "not told")
    last = world.capture.take_rest(buffer)
    assert last is not None
    assert (last.line, last.lines) == (2, 1)
    assert world.capture.take_rest(buffer) is None
    assert world.texts(1) == ["told"]


async def test_more_than_a_chunk_is_sent_before_the_end(world: World) -> None:
    buffer = world.buffer(1)
    for number in range(3):
        buffer.add("stdout", "", f"{number}" * module.MAX_LINE)
    assert world.capture.take_rest(buffer) is None
    assert [text[0] for text in world.texts(1)] == ["0", "1", "2"]


async def test_buffers_may_be_made_while_others_are_sent(world: World) -> None:
    over, interval = threading.Event(), sys.getswitchinterval()

    def talk(first: int) -> None:
        for job in range(first, first + 3000):
            world.buffer(job).add("stdout", "", "hello")

    async def tell() -> None:
        while not over.is_set():
            world.capture.flush()
            await asyncio.sleep(0)

    sys.setswitchinterval(1e-6)
    try:
        telling = asyncio.create_task(tell())
        await asyncio.gather(*(asyncio.to_thread(talk, first) for first in (0, 10_000, 20_000)))
        over.set()
        await telling
    finally:
        sys.setswitchinterval(interval)
    world.capture.flush()
    assert sum(chunk.lines for chunk in world.told) == 9000


def test_a_line_that_is_written_while_another_is_kept_does_not_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A finalizer or a signal handler may do that."""
    words = CrashBuffer(crash_buffer.create())
    line = msgspec.json.encode(Line(0.0, "stdout", "", "x" * 4000))
    switch = words._switch

    def interrupted() -> None:
        words.write(1, 1, 1, line, tail=False)
        switch()

    def write() -> None:
        for _ in range(100):
            words.write(1, 1, 1, line, tail=False)

    monkeypatch.setattr(words, "_switch", interrupted)
    talk = threading.Thread(target=write, daemon=True)
    talk.start()
    talk.join(20)
    assert not talk.is_alive()
