"""Test how a worker makes room for a job that runs alone, and for how long it tries."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast
from uuid import uuid4

import pytest

from taskd.domain.config import Version
from taskd.domain.errors import SessionLost, StoreUnavailable
from taskd.domain.fencing import Delivery, Host, Session, Suspect
from taskd.runtime.config import Config
from taskd.runtime.outage import Outage
from taskd.worker import isolation as module
from taskd.worker.isolation import Isolation

SESSION = Session(id=uuid4(), worker_id="w", host=Host("h", "b", 1, 1), queues=("q",), slots=4)


def suspect(job_id: int = 1, waited: float = 0.0) -> Suspect:
    return Suspect(Delivery(job_id, 1, "jobs:q:0", f"{job_id}-1"), "q", 2, waited)


class Seams:
    """The attempts, the executors and the transport: `open` attempts run until `rest` is called."""

    def __init__(self, running: int) -> None:
        self.open = running
        self.tell: list[str] = []
        self.failures: list[Exception] = []
        self.left: list[Suspect] = []
        self.claimed = asyncio.Event()
        self.wakes = 0
        self._holds = asyncio.Semaphore(0)
        self._fewer = asyncio.Event()
        if not running:
            self._fewer.set()

    def rest(self) -> None:
        """End all attempts that run."""
        self.open = 0
        self._fewer.set()

    async def idle(self) -> None:
        await self._fewer.wait()

    async def available(self) -> None:
        return

    async def accept(
        self, session: Session, deliveries: Sequence[Delivery], *, again: bool, alone: bool
    ) -> list[Suspect]:
        assert alone
        assert self.open == 0
        if self.failures:
            raise self.failures.pop(0)
        self.tell.append(f"claim {deliveries[0].job_id}{' again' if again else ''}")
        if not self.left:
            self.open = 1
            self._fewer.clear()
        self.claimed.set()
        return self.left

    async def put_off(self, session: Session, one: Suspect, delay: float) -> None:
        if self.failures:
            raise self.failures.pop(0)
        assert delay > 0
        self.tell.append(f"put off {one.delivery.job_id}")

    async def hold(self, deliveries: Sequence[Delivery]) -> None:
        self.tell.append(f"hold {deliveries[0].job_id}")
        self._holds.release()

    async def held(self, times: int) -> None:
        """Return when the delivery was held so often."""
        async with asyncio.timeout(10):
            for _ in range(times):
                await self._holds.acquire()

    async def wake(self) -> None:
        self.wakes += 1

    async def decided(self, deliveries: Sequence[Delivery]) -> None:
        self.tell.append(f"decided {deliveries[0].job_id}")

    async def give_back(self, deliveries: Sequence[Delivery]) -> None:
        self.tell.append(f"give back {deliveries[0].job_id}")


class World:
    """One worker's Isolation, and the events that steer it."""

    def __init__(self, running: int = 0, version: Version | None = None) -> None:
        self.seams = Seams(running)
        self.stop, self.allowed = asyncio.Event(), asyncio.Event()
        self.allowed.set()
        each = cast("Any", self.seams)
        live = Config()
        if version is not None:
            live.now = version
        self.solitude = Isolation(each, each, each, claim_idle=0.03, config=live, redis=Outage("Redis"))

    async def take(self, *suspects: Suspect) -> list[str]:
        async with asyncio.timeout(10):
            await self.solitude.take(SESSION, suspects, self.stop, self.allowed)
        return self.seams.tell


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    monkeypatch.setattr(module, "OUTAGE", 0.0)


async def test_an_idle_worker_runs_it_at_once_and_takes_nothing_until_it_ends() -> None:
    world = World()
    taking = asyncio.create_task(world.take(suspect()))
    await world.seams.claimed.wait()
    await asyncio.sleep(0)
    assert not taking.done()
    world.seams.rest()
    assert await taking == ["claim 1", "decided 1"]


async def test_a_busy_worker_lets_what_runs_end_first_and_holds_the_delivery_meanwhile() -> None:
    world = World(running=3)
    taking = asyncio.create_task(world.take(suspect(waited=1000.0)))
    await world.seams.held(1)
    world.seams.rest()
    await world.seams.claimed.wait()
    world.seams.rest()
    assert [told for told in await taking if told != "hold 1"] == ["claim 1", "decided 1"]


async def test_a_neighbour_that_runs_too_long_has_it_put_off() -> None:
    world = World(running=1)
    assert [told for told in await world.take(suspect()) if told != "hold 1"] == ["put off 1", "decided 1"]
    assert world.seams.wakes == 1  # the leader is to look when it is due again


async def test_the_patience_grows_with_the_time_that_it_has_waited() -> None:
    world = World(running=1)
    taking = asyncio.create_task(world.take(suspect(waited=1000.0)))
    await world.seams.held(20)  # four times the least patience
    assert not taking.done()
    taking.cancel()


async def test_a_busy_worker_that_has_just_waited_lets_others_run_first() -> None:
    world = World(running=1)
    await world.take(suspect())
    world.seams.tell.clear()
    assert await world.take(suspect()) == ["put off 1", "decided 1"]  # not even held
    world.seams.rest()
    world.seams.tell.clear()
    taking = asyncio.create_task(world.take(suspect()))  # an idle one need not
    await world.seams.claimed.wait()
    world.seams.rest()
    assert await taking == ["claim 1", "decided 1"]


async def test_of_several_the_one_that_has_waited_longest_runs_and_the_others_are_put_off() -> None:
    world = World()
    taking = asyncio.create_task(world.take(suspect(1, 5.0), suspect(2, 9.0), suspect(3, 7.0)))
    await world.seams.claimed.wait()
    world.seams.rest()
    told = await taking
    assert told == ["put off 3", "decided 3", "put off 1", "decided 1", "claim 2", "decided 2"]


async def test_a_worker_that_stops_gives_it_back() -> None:
    world = World(running=1)
    taking = asyncio.create_task(world.take(suspect(waited=1000.0)))
    await asyncio.sleep(0)
    world.stop.set()
    assert [told for told in await taking if told != "hold 1"] == ["give back 1"]


@pytest.mark.parametrize("key", ["worker.w.quiet", "queue.q.paused"])
async def test_a_worker_that_takes_nothing_new_gives_it_back(key: str) -> None:
    version = Version(version=1, values={key: True})
    assert await World(running=1, version=version).take(suspect(waited=1000.0)) == ["give back 1"]


async def test_a_claim_is_tried_again_after_an_outage() -> None:
    world = World()
    world.seams.failures = [StoreUnavailable("away", outcome_unknown=True)]
    taking = asyncio.create_task(world.take(suspect()))
    await world.seams.claimed.wait()
    world.seams.rest()
    assert await taking == ["claim 1 again", "decided 1"]


async def test_a_lost_session_gives_it_back() -> None:
    world = World()
    world.seams.failures = [SessionLost("over")]
    with pytest.raises(SessionLost):
        await world.take(suspect())
    assert world.seams.tell == ["give back 1"]


async def test_what_is_not_won_and_still_current_is_put_off() -> None:
    world = World()
    world.seams.left = [suspect()]
    assert await world.take(suspect()) == ["claim 1", "put off 1", "decided 1"]


async def test_what_cannot_be_put_off_is_offered_again() -> None:
    world = World(running=1)
    world.seams.failures = [StoreUnavailable("away")]
    assert [told for told in await world.take(suspect()) if told != "hold 1"] == ["give back 1"]
