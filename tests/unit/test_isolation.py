"""Tests of isolation: a worker makes room for a suspect, which runs alone, and waits for that only so long."""

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


class FakeSeams:
    """Fake attempts, executors and transport: `open` attempts run until `rest` is called. Records the calls."""

    def __init__(self, running: int) -> None:
        self.open = running
        self.calls: list[str] = []
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
        self.calls.append(f"claim {deliveries[0].job_id}{' again' if again else ''}")
        if not self.left:
            self.open = 1
            self._fewer.clear()
        self.claimed.set()
        return self.left

    async def put_off(self, session: Session, suspect: Suspect, delay: float) -> None:
        if self.failures:
            raise self.failures.pop(0)
        assert delay > 0
        self.calls.append(f"put off {suspect.delivery.job_id}")

    async def hold(self, deliveries: Sequence[Delivery]) -> None:
        self.calls.append(f"hold {deliveries[0].job_id}")
        self._holds.release()

    async def held(self, times: int) -> None:
        """Return once the delivery was held so often."""
        async with asyncio.timeout(10):
            for _ in range(times):
                await self._holds.acquire()

    async def wake(self) -> None:
        self.wakes += 1

    async def decided(self, deliveries: Sequence[Delivery]) -> None:
        self.calls.append(f"decided {deliveries[0].job_id}")

    async def give_back(self, deliveries: Sequence[Delivery]) -> None:
        self.calls.append(f"give back {deliveries[0].job_id}")


class Harness:
    """One worker's Isolation, and the events that steer it."""

    def __init__(self, running: int = 0, version: Version | None = None) -> None:
        self.seams = FakeSeams(running)
        self.stop, self.allowed = asyncio.Event(), asyncio.Event()
        self.allowed.set()
        each = cast("Any", self.seams)
        live = Config()
        if version is not None:
            live.now = version
        self.isolation = Isolation(each, each, each, claim_idle=0.03, config=live, redis=Outage("Redis"))

    async def take(self, *suspects: Suspect) -> list[str]:
        async with asyncio.timeout(10):
            await self.isolation.take(SESSION, suspects, self.stop, self.allowed)
        return self.seams.calls


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    monkeypatch.setattr(module, "OUTAGE", 0.0)


async def test_an_idle_worker_runs_a_suspect_at_once_and_takes_nothing_until_it_ends() -> None:
    harness = Harness()
    taking = asyncio.create_task(harness.take(suspect()))
    await harness.seams.claimed.wait()
    await asyncio.sleep(0)
    assert not taking.done()
    harness.seams.rest()
    assert await taking == ["claim 1", "decided 1"]


async def test_a_busy_worker_lets_its_attempts_end_first_and_holds_the_delivery_meanwhile() -> None:
    harness = Harness(running=3)
    taking = asyncio.create_task(harness.take(suspect(waited=1000.0)))
    await harness.seams.held(1)
    harness.seams.rest()
    await harness.seams.claimed.wait()
    harness.seams.rest()
    assert [call for call in await taking if call != "hold 1"] == ["claim 1", "decided 1"]


async def test_a_suspect_is_put_off_if_another_attempt_runs_too_long() -> None:
    harness = Harness(running=1)
    assert [call for call in await harness.take(suspect()) if call != "hold 1"] == ["put off 1", "decided 1"]
    assert harness.seams.wakes == 1  # so that the leader looks when the suspect is due again


async def test_the_patience_grows_with_the_time_that_a_suspect_has_waited() -> None:
    harness = Harness(running=1)
    taking = asyncio.create_task(harness.take(suspect(waited=1000.0)))
    await harness.seams.held(20)  # four times the least patience
    assert not taking.done()
    taking.cancel()


async def test_a_busy_worker_that_has_just_waited_puts_the_next_suspect_off() -> None:
    harness = Harness(running=1)
    await harness.take(suspect())
    harness.seams.calls.clear()
    assert await harness.take(suspect()) == ["put off 1", "decided 1"]  # not even held
    harness.seams.rest()
    harness.seams.calls.clear()
    taking = asyncio.create_task(harness.take(suspect()))  # an idle worker need not wait
    await harness.seams.claimed.wait()
    harness.seams.rest()
    assert await taking == ["claim 1", "decided 1"]


async def test_the_suspect_that_has_waited_longest_runs_and_the_others_are_put_off() -> None:
    harness = Harness()
    taking = asyncio.create_task(harness.take(suspect(1, 5.0), suspect(2, 9.0), suspect(3, 7.0)))
    await harness.seams.claimed.wait()
    harness.seams.rest()
    calls = await taking
    assert calls == ["put off 3", "decided 3", "put off 1", "decided 1", "claim 2", "decided 2"]


async def test_a_worker_that_stops_gives_a_suspect_back() -> None:
    harness = Harness(running=1)
    taking = asyncio.create_task(harness.take(suspect(waited=1000.0)))
    await asyncio.sleep(0)
    harness.stop.set()
    assert [call for call in await taking if call != "hold 1"] == ["give back 1"]


@pytest.mark.parametrize("key", ["worker.w.quiet", "queue.q.paused"])
async def test_a_worker_that_takes_nothing_new_gives_a_suspect_back(key: str) -> None:
    version = Version(version=1, values={key: True})
    assert await Harness(running=1, version=version).take(suspect(waited=1000.0)) == ["give back 1"]


async def test_a_claim_is_tried_again_after_an_outage() -> None:
    harness = Harness()
    harness.seams.failures = [StoreUnavailable("away", outcome_unknown=True)]
    taking = asyncio.create_task(harness.take(suspect()))
    await harness.seams.claimed.wait()
    harness.seams.rest()
    assert await taking == ["claim 1 again", "decided 1"]


async def test_a_worker_without_its_session_gives_a_suspect_back() -> None:
    harness = Harness()
    harness.seams.failures = [SessionLost("over")]
    with pytest.raises(SessionLost):
        await harness.take(suspect())
    assert harness.seams.calls == ["give back 1"]


async def test_a_current_suspect_that_could_not_be_claimed_is_put_off() -> None:
    harness = Harness()
    harness.seams.left = [suspect()]
    assert await harness.take(suspect()) == ["claim 1", "put off 1", "decided 1"]


async def test_a_suspect_that_cannot_be_put_off_is_offered_again() -> None:
    harness = Harness(running=1)
    harness.seams.failures = [StoreUnavailable("away")]
    assert [call for call in await harness.take(suspect()) if call != "hold 1"] == ["give back 1"]
