"""Test the writing of output: bounded, in batches, and before the attempt's end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
import pytest

from taskd.domain.errors import Rejected, StoreUnavailable
from taskd.domain.job import AttemptId
from taskd.domain.output import Chunk, Line, Output
from taskd.worker import logs as module
from taskd.worker.logs import LOST, LogWriter
from tests.servers import wait_until_async
from tests.unit.claims import claim

LIMIT = 400


def chunk(job_id: int, line: int, text: str = "x", *, tail: bool = False) -> Chunk:
    return Chunk(job_id, 1, line, 1, tail, msgspec.json.encode([Line(1.0, "stdout", "", text)]))


class FakeStore:
    """Fake store that keeps output as the table would. It may be away, refuse, or know no claim."""

    def __init__(self) -> None:
        self.writes: list[list[Output]] = []
        self.rows: dict[AttemptId, dict[int, Chunk]] = {}
        self.away = False
        self.refuses: set[int] = set()
        self.fenced: set[int] = set()
        self.tries = 0
        self.gate: asyncio.Event | None = None

    async def write(self, outputs: Sequence[Output]) -> set[AttemptId]:
        self.tries += 1
        await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate.wait()
        if self.away:
            raise StoreUnavailable("away")
        if self.refuses & {output.job_id for output in outputs}:
            raise Rejected("no")
        self.writes.append(list(outputs))
        held = [output for output in outputs if output.job_id not in self.fenced]
        for output in held:
            rows = self.rows.setdefault(AttemptId(output.job_id, output.attempt), {})
            rows.update({c.line: c for c in output.chunks})
            for line in [n for n in rows if output.gone[0] <= n < output.gone[1]]:
                del rows[line]
        return {AttemptId(output.job_id, output.attempt) for output in held}

    def lines(self, job_id: int) -> list[int]:
        return sorted(self.rows.get(AttemptId(job_id, 1), {}))


class Harness:
    """A log writer on a fake store, with the claims of attempts 1 to 9."""

    def __init__(self) -> None:
        self.store = FakeStore()
        self.claims = {AttemptId(n, 1): claim(n) for n in range(1, 10)}
        self.written: list[AttemptId] = []
        self.logs = LogWriter(self.store, self.claims.get, self.written.append, LIMIT)


@asynccontextmanager
async def writing(harness: Harness) -> AsyncIterator[None]:
    task = asyncio.create_task(harness.logs.write())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
def harness() -> Harness:
    return Harness()


async def test_output_of_many_attempts_is_one_statement(harness: Harness) -> None:
    for job_id in (1, 2, 3):
        harness.logs.add(chunk(job_id, 1))
        harness.logs.add(chunk(job_id, 2))
    async with writing(harness):
        await wait_until_async(lambda: harness.store.lines(3) == [1, 2], 5)
    assert len(harness.store.writes) == 1


async def test_an_attempt_without_output_ends_at_once_and_costs_nothing(harness: Harness) -> None:
    async with writing(harness):
        assert not harness.logs.end(AttemptId(1, 1))
    assert harness.store.tries == 0


async def test_an_end_waits_for_its_last_output_and_only_for_that(harness: Harness) -> None:
    harness.logs.add(chunk(1, 1))
    assert harness.logs.end(AttemptId(1, 1))
    async with writing(harness):
        await wait_until_async(lambda: harness.written == [(1, 1)], 5)
        harness.logs.add(chunk(2, 1))
        await wait_until_async(lambda: harness.store.lines(2) == [1], 5)
        assert not harness.logs.end(AttemptId(2, 1))
    assert harness.store.lines(1) == [1]


async def test_an_end_waits_for_output_that_is_being_written(harness: Harness) -> None:
    harness.store.gate = asyncio.Event()
    harness.logs.add(chunk(1, 1))
    async with writing(harness):
        await wait_until_async(lambda: harness.store.tries)
        assert harness.logs.end(AttemptId(1, 1))
        assert harness.written == []
        harness.store.gate.set()
        await wait_until_async(lambda: harness.written == [(1, 1)])
    assert harness.store.lines(1) == [1]


async def test_only_the_newest_of_the_last_part_is_kept(harness: Harness) -> None:
    async with writing(harness):
        harness.logs.add(chunk(1, 1))
        for line in range(2, 60):
            harness.logs.add(chunk(1, line, "y" * 20, tail=True))
            if line % 7 == 0:
                await wait_until_async(lambda n=line: n in harness.store.lines(1), 5)  # type: ignore[misc]
        assert harness.logs.end(AttemptId(1, 1))
        await wait_until_async(lambda: harness.written == [(1, 1)], 5)
    kept = harness.store.lines(1)
    assert kept[0] == 1
    assert kept[1:] == list(range(kept[1], 60))
    assert sum(len(c.body) for c in harness.store.rows[AttemptId(1, 1)].values()) <= LIMIT


async def test_while_postgresql_is_away_waiting_output_is_bounded_and_then_written(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OUTAGE", 0.01)
    harness.store.away = True
    async with writing(harness):
        for line in range(1, 200):
            harness.logs.add(chunk(1, line, "y" * 20, tail=line > 3))
            if line % 50 == 0:
                tries = harness.store.tries
                await wait_until_async(lambda n=tries: harness.store.tries > n, 5)  # type: ignore[misc]
        assert harness.logs._bytes <= LIMIT + 100
        assert harness.logs.end(AttemptId(1, 1))
        harness.store.away = False
        await wait_until_async(lambda: harness.written == [(1, 1)], 5)
    kept = harness.store.lines(1)
    assert kept[:3] == [1, 2, 3]
    assert kept[-1] == 199
    assert harness.logs._bytes == 0


async def test_output_beyond_the_limit_is_left_out_and_a_line_notes_that(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 100)
    harness.logs.add(chunk(1, 1))
    harness.logs.add(chunk(1, 2, "z" * 200))
    harness.logs.add(chunk(1, 3, "z" * 200))
    assert harness.logs.end(AttemptId(1, 1))
    async with writing(harness):
        await wait_until_async(lambda: harness.written == [(1, 1)], 5)
    assert harness.store.lines(1) == [1, 3]
    (line,) = msgspec.json.decode(harness.store.rows[AttemptId(1, 1)][3].body, type=list[Line])
    assert (line.source, line.text) == ("taskd", LOST)


async def test_a_fenced_attempt_writes_nothing_more_and_ends(harness: Harness) -> None:
    harness.store.fenced = {1}
    harness.logs.add(chunk(1, 1))
    async with writing(harness):
        await wait_until_async(lambda: len(harness.store.writes) == 1, 5)
        harness.logs.add(chunk(1, 2))
        assert not harness.logs.end(AttemptId(1, 1))
    assert len(harness.store.writes) == 1
    assert harness.logs._bytes == 0


async def test_output_that_postgresql_refuses_harms_no_other_attempt(harness: Harness) -> None:
    harness.store.refuses = {2}
    for job_id in (1, 2, 3):
        harness.logs.add(chunk(job_id, 1))
        assert harness.logs.end(AttemptId(job_id, 1))
    async with writing(harness):
        await wait_until_async(lambda: len(harness.written) == 3, 5)
    assert [harness.store.lines(n) for n in (1, 2, 3)] == [[1], [], [1]]
