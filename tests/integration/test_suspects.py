"""Test suspects: a job of a crashed executor runs in a separate process, at no cost to others."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from taskd.domain.job import AttemptId
from taskd.domain.outcome import Completed, Crashed, Failed, Released, TimedOut
from taskd.seams import Order
from tests.integration.executor_bench import Bench, running
from tests.servers import wait_until_async


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with running(Bench(slots=3)) as bench:
        yield bench
    assert all(len(outcomes) == 1 for outcomes in bench.ends.values() if outcomes)


def suspect(order: Order) -> Order:
    return msgspec.structs.replace(order, suspect=True)


async def test_a_poisonous_suspect_crashes_alone(bench: Bench) -> None:
    neighbour, poison = bench.order("naps"), suspect(bench.order("leave"))
    await bench.begin(neighbour, poison)
    (outcome,) = await bench.ended(poison)
    assert isinstance(outcome, Crashed)
    assert not bench.ends[neighbour.job_id]
    assert bench.executors.restarts == 0
    bench.executors.stop(AttemptId(neighbour.job_id, 7), Released("over"))
    await bench.ended(neighbour)


async def test_an_innocent_suspect_completes_and_its_process_goes(bench: Bench) -> None:
    order = suspect(bench.order("add", '{"a": 1, "b": 2}'))
    await bench.begin(order)
    assert bench.executors.free == 2
    (outcome,) = await bench.ended(order)
    assert isinstance(outcome, Completed)
    await wait_until_async(lambda: bench.executors.free == 3)
    assert bench.executors.running == 0


async def test_a_suspect_takes_a_slot_like_any_other(bench: Bench) -> None:
    orders = [suspect(bench.order("naps")) for _ in range(4)]
    await bench.begin(*orders)
    assert bench.executors.running == 3
    assert await bench.ended(orders[3]) == [Released("no executor was free")]
    bench.executors.kill()
    assert all(isinstance(outcome, Released) for outcome in await bench.ended(*orders))


async def test_a_suspect_can_be_stopped_while_its_process_is_only_starting(bench: Bench) -> None:
    order = suspect(bench.order("naps"))
    await bench.begin(order)
    bench.executors.stop(order.attempt_id, Failed("called off"))
    assert await bench.ended(order) == [Failed("called off")]


async def test_a_suspect_has_its_timeout(bench: Bench) -> None:
    order = suspect(bench.order("spins", timeout=0.3))
    await bench.begin(order)
    assert await bench.ended(order) == [TimedOut(0.3)]


async def test_an_executor_that_talks_nonsense_is_killed_and_replaced(bench: Bench) -> None:
    outcome = await bench.run("babbles")
    assert isinstance(outcome, Crashed)
    assert "connection" in outcome.error
    assert isinstance(await bench.run("add", '{"a": 1, "b": 2}'), Completed)
