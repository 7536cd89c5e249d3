"""Test that output is kept, once, whatever an app or a task makes of the standard streams and of logging."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable

import pytest

from taskd.domain.outcome import Completed
from tests.integration import executor_tasks
from tests.integration.executor_bench import Bench

SPOILT = [
    "close",
    "close what is below",
    "close the descriptors",
    "with",
    "detach",
    "none",
    "the original",
    "leave another",
    "leave a closed one",
]
SET_UP = [
    "dictConfig",
    "dictConfig that propagates nothing",
    "fileConfig",
    "basicConfig",
    "clear",
    "shutdown",
    "disable",
    "level",
    "nothing",
]


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def make(app: str = executor_tasks.__name__, max_log_bytes: int = 60_000) -> Bench:
        benches.append(bench := Bench(app=app, max_log_bytes=max_log_bytes))
        return bench

    yield make
    for bench in benches:
        await bench.executors.close()


@pytest.mark.parametrize("how", SPOILT)
async def test_what_one_task_does_to_its_streams_does_not_reach_the_next(start: Callable[..., Bench], how: str) -> None:
    bench = start()
    await bench.executors.start()
    for _ in range(2):
        assert isinstance(await bench.run("spoil", f'{{"how": "{how}"}}'), Completed)
        spoken = bench.order("speaks")
        outcome = await bench.finish(spoken)
        assert isinstance(outcome, Completed), outcome
        assert bench.heard[spoken.job_id] == ["out", "original", "err"]
    assert bench.executors.restarts == 0


async def test_descriptors_that_a_task_has_closed_are_opened_again(start: Callable[..., Bench]) -> None:
    """Test that no socket gets their numbers, since it would then receive the output of programs."""
    bench = start(max_log_bytes=0)
    await bench.executors.start()
    assert isinstance(await bench.run("spoil", '{"how": "close the descriptors"}'), Completed)
    deadline = time.monotonic() + 20
    while True:
        outcome = await bench.run("speaks")
        assert isinstance(outcome, Completed)
        if bytes(outcome.result) == b"[true,true,true]":
            return
        assert time.monotonic() < deadline


def expected(text: list[str]) -> None:
    *lines, last = text
    assert lines == ["shop: an info line", "shop.inner: an error line of two"]
    assert last.startswith("root: with a traceback\nTraceback")


@pytest.mark.parametrize("how", SET_UP)
async def test_every_line_of_logging_is_there_once_however_the_task_sets_it_up(
    start: Callable[..., Bench], how: str
) -> None:
    bench = start()
    await bench.executors.start()
    for _ in range(2):
        order = bench.order("logs_after", f'{{"how": "{how}"}}')
        assert isinstance(await bench.finish(order), Completed)
        expected(bench.heard[order.job_id])


async def test_output_is_kept_with_an_app_that_configures_logging_at_its_import(start: Callable[..., Bench]) -> None:
    bench = start("tests.integration.set_up_app")
    await bench.executors.start()
    order, spoken = bench.order("logs_after", '{"how": "nothing"}'), bench.order("speaks")
    assert isinstance(await bench.finish(order), Completed)
    expected(bench.heard[order.job_id])
    assert isinstance(await bench.finish(spoken), Completed)
    assert bench.heard[spoken.job_id] == ["out", "original", "err"]


async def test_what_an_app_makes_of_structlog_does_not_reach_the_log_of_its_tasks(start: Callable[..., Bench]) -> None:
    bench = start()
    await bench.executors.start()
    order = bench.order("logs_by_ctx")
    assert isinstance(await bench.finish(order), Completed)
    assert bench.heard[order.job_id] == ["still heard width=3", "a line that cannot be shown (RuntimeError)"]
