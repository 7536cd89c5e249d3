"""Test user code that writes to its executor's connection: that executor ends, its attempt crashes, and all others go on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from taskd.domain.outcome import Completed, Crashed
from taskd.domain.output import Chunk
from taskd.worker.pool.protocol import End, EndKind, Ends, LockRequest, LogMessage, NoteMessage, Ready, encode
from tests.integration.executor_bench import Bench, running

FORGED: dict[str, bytes] = {
    "an error that is no UTF-8": encode(Ends([End(1, 7, EndKind.FAILED, b"\xff")])),
    "a result that is no JSON": encode(Ends([End(1, 7, EndKind.COMPLETED, b'1},{"id":2')])),
    "a traceback that is no UTF-8": encode(Ends([End(1, 7, EndKind.FAILED, b"", None, b"\xff")])),
    "an endless snooze": encode(Ends([End(1, 7, EndKind.SNOOZED, b"", float("inf"))])),
    "lines that are none": encode(LogMessage([Chunk(1, 7, 1, 9, False, b"[]")])),
    "a progress that is none": encode(NoteMessage(1, 7, progress=b"\xff")),
    "a wait that is none": encode(LockRequest(1, 7, 1, "x", float("nan"))),
    "names that are none": encode(Ready(["\x1b[2J"])),
    "a deep nesting": (100_003).to_bytes(4, "big") + b"\x95\x06" + b"\x91" * 100_000 + b"\x01",
    "a length that no frame has": b"\xff" * 100,
}


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with running(Bench(processes=2, slots=4)) as bench:
        yield bench


@pytest.mark.parametrize("forged", FORGED)
async def test_a_forged_frame_costs_its_own_executor_only(bench: Bench, forged: str) -> None:
    culprit = bench.order("forge", json.dumps({"frame": FORGED[forged].hex()}))
    neighbour = bench.order("rests", '{"seconds": 1}')
    await bench.begin(culprit, neighbour)
    crashed, fine = await bench.ended(culprit, neighbour)
    assert isinstance(crashed, Crashed)
    assert isinstance(fine, Completed)
    assert isinstance(await bench.run("add", '{"a": 1, "b": 2}'), Completed)


async def test_ends_of_attempts_that_an_executor_has_not_are_passed_over(bench: Bench) -> None:
    other = bench.order("rests", '{"seconds": 1}')
    ends: list[Any] = [End(other.job_id, 7, EndKind.COMPLETED, b'"forged"'), End(2**62, 7, EndKind.COMPLETED, b"1")]
    culprit = bench.order("forge", json.dumps({"frame": encode(Ends(ends)).hex()}), timeout=0.5)
    await bench.begin(other, culprit)
    (fine,) = await bench.ended(other)
    assert isinstance(fine, Completed)
    assert msgspec.json.decode(fine.result) != "forged"
    await bench.ended(culprit)
