"""Test a worker's fetcher: outages of PostgreSQL and Redis, free slots, and the order of queues."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any, cast
from uuid import uuid4

import msgspec
import pytest

from taskd.domain.config import Version
from taskd.domain.errors import StoreUnavailable
from taskd.domain.fencing import Delivery, Host, Session, Suspect
from taskd.runtime.config import Config
from taskd.runtime.outage import Outage
from taskd.settings import WorkerSettings
from taskd.worker import fetcher as module
from taskd.worker.fetcher import Fetcher

SESSION = Session(id=uuid4(), worker_id="w", host=Host("h", "b", 1, 1), queues=("q",), slots=4)
ENTRY = Delivery(1, 1, "jobs:q:0", "1-1")


class FakeSeams:
    """Fake transport, attempts and executors of a fetcher: one delivery, and a PostgreSQL that is away at first."""

    def __init__(self) -> None:
        self.free = 4
        self.claims: list[bool] = []
        self.decisions: list[Delivery] = []
        self.returned: list[Delivery] = []
        self.failed = asyncio.Event()
        self.done = asyncio.Event()

    async def fetch(self, queues: Sequence[str], slots: int, block: float) -> list[Delivery]:
        if self.claims or self.returned:
            await asyncio.Event().wait()
        self.on_fetch()
        return [ENTRY]

    def on_fetch(self) -> None:
        """Do what the test wants to happen while the worker waits for work."""

    async def caught_up(self) -> None:
        return

    async def accept(self, session: Session, deliveries: Sequence[Delivery], *, again: bool) -> list[Suspect]:
        self.claims.append(again)
        if not again:
            self.failed.set()
            raise StoreUnavailable("away", outcome_unknown=True)
        return []

    async def decided(self, deliveries: Sequence[Delivery]) -> None:
        self.decisions += deliveries
        self.done.set()

    async def give_back(self, deliveries: Sequence[Delivery]) -> None:
        self.returned += deliveries
        self.done.set()


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OUTAGE", 0.0)


async def turns(number: int = 50) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def start(seams: FakeSeams, stop: asyncio.Event, allowed: asyncio.Event) -> asyncio.Task[None]:
    fakes = cast("Any", seams)
    fetcher = Fetcher(fakes, fakes, fakes, WorkerSettings(), config=Config(), redis=Outage("Redis"))
    return asyncio.create_task(fetcher.run(SESSION, stop, allowed))


async def test_a_claim_is_tried_again_only_once_the_lease_is_renewed() -> None:
    seams, stop, allowed = FakeSeams(), asyncio.Event(), asyncio.Event()
    allowed.set()
    running = start(seams, stop, allowed)
    await seams.failed.wait()
    allowed.clear()  # the heartbeat met the same outage
    await turns()
    assert seams.claims == [False]
    assert seams.decisions == []
    allowed.set()
    await seams.done.wait()
    assert seams.claims == [False, True]
    assert seams.decisions == [ENTRY]
    running.cancel()


async def test_a_worker_that_must_stop_gives_back_what_it_could_not_claim() -> None:
    seams, stop, allowed = FakeSeams(), asyncio.Event(), asyncio.Event()
    allowed.set()
    running = start(seams, stop, allowed)
    await seams.failed.wait()
    allowed.clear()
    stop.set()
    await running
    assert seams.returned == [ENTRY]
    assert seams.decisions == []


async def test_a_delivery_without_a_free_slot_is_given_back_unclaimed() -> None:
    """An executor died while the worker waited for work. A claimed job would be released at once."""
    seams, stop, allowed = FakeSeams(), asyncio.Event(), asyncio.Event()

    def crash() -> None:
        seams.free = 0

    seams.on_fetch = crash  # type: ignore[method-assign]
    allowed.set()
    running = start(seams, stop, allowed)
    await seams.done.wait()
    assert (seams.returned, seams.claims) == ([ENTRY], [])
    running.cancel()


class ContinuousSeams(FakeSeams):
    """FakeSeams that deliver again and again. Redis does not answer while it `hangs`."""

    hangs = True

    async def fetch(self, queues: Sequence[str], slots: int, block: float) -> list[Delivery]:
        await asyncio.sleep(0)
        return [ENTRY]

    async def accept(self, session: Session, deliveries: Sequence[Delivery], *, again: bool) -> list[Suspect]:
        self.claims.append(again)
        if len(self.claims) == 2:
            self.failed.set()
        return []

    async def decided(self, deliveries: Sequence[Delivery]) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        await super().decided(deliveries)


async def test_a_session_that_ends_while_entries_are_being_forgotten_leaves_nothing_to_the_next() -> None:
    seams, allowed = ContinuousSeams(), asyncio.Event()
    allowed.set()
    fakes = cast("Any", seams)
    fetcher = Fetcher(fakes, fakes, fakes, WorkerSettings(), config=Config(), redis=Outage("Redis"))
    first = asyncio.create_task(fetcher.run(SESSION, asyncio.Event(), allowed))
    await seams.failed.wait()  # the second batch is claimed, while the first one's entries are still being forgotten
    await turns()
    assert len(seams.claims) == 2
    first.cancel()
    await asyncio.wait([first])
    seams.hangs = False
    second = asyncio.create_task(fetcher.run(SESSION, asyncio.Event(), allowed))
    await asyncio.wait([second, done := asyncio.create_task(seams.done.wait())], return_when=asyncio.FIRST_COMPLETED)
    assert done.done(), "the next session's fetcher ended with deliveries of the last one"
    second.cancel()


async def orders(version: Version, queues: tuple[str, ...], number: int) -> list[list[str]]:
    """Return the order in which a worker reads its queues, many times."""
    live = Config()
    live.take(version)
    fakes = cast("Any", FakeSeams())
    fetcher = Fetcher(fakes, fakes, fakes, WorkerSettings(), config=live, redis=Outage("Redis"))
    session = msgspec.structs.replace(SESSION, queues=queues)
    return [fetcher._queues(session) for _ in range(number)]


async def test_paused_queues_are_not_read() -> None:
    version = Version(version=1, values={"queue.b.paused": True, "queue.c.paused": False})
    assert {tuple(sorted(order)) for order in await orders(version, ("a", "b", "c"), 20)} == {("a", "c")}


async def test_a_queue_is_read_first_as_often_as_its_weight_says() -> None:
    random.seed(1)
    version = Version(version=1, values={"queue.a.weight": 3})
    first = [order[0] for order in await orders(version, ("a", "b"), 4000)]
    assert first.count("a") / len(first) == pytest.approx(0.75, abs=0.03)
