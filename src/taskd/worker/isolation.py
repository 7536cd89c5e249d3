"""Runs suspects alone: a job during which several workers disappeared shares a worker with no other job any more."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from random import uniform

from taskd.domain.errors import SessionLost, StoreUnavailable, TransportUnavailable
from taskd.domain.fencing import Session, Suspect
from taskd.runtime import meters
from taskd.runtime.config import Config
from taskd.runtime.log import logger
from taskd.runtime.outage import Outage
from taskd.runtime.waiting import either, first
from taskd.seams import Transport
from taskd.worker.attempts import Attempts
from taskd.worker.pool.pool import ExecutorPool

#: The least seconds that this worker waits for its other jobs to end.
PATIENCE = 5.0
#: The part of the time that a suspect has waited already which this worker waits for its other jobs to end.
SHARE = 0.5
#: The fewest and the most seconds for which a suspect is put off, about a tenth of the time that it has waited already.
PUT_OFF = (1.0, 30.0)
#: Seconds between tries while PostgreSQL is away.
OUTAGE = 0.25


class Isolation:
    """1. Fetches nothing and waits until no attempt runs. 2. Claims one suspect and waits for its end. 3. Puts off the others.

    The wait is bounded, so that a suspect never keeps a worker's slots empty for long: after it, the suspect is put off. The
    bound grows with the time that the suspect has waited already, so that no long-running neighbour starves it for ever.
    After a wait or a run, a busy worker takes no suspect for as long again: other jobs get half of the time at least.
    """

    def __init__(
        self,
        transport: Transport,
        attempts: Attempts,
        executors: ExecutorPool,
        *,
        claim_idle: float,
        config: Config,
        redis: Outage,
    ) -> None:
        self._transport = transport
        self._attempts = attempts
        self._executors = executors
        self._hold_every = claim_idle / 3
        self._config = config
        self._redis = redis
        self._busy_until = 0.0

    async def take(
        self, session: Session, suspects: Sequence[Suspect], stop: asyncio.Event, allowed: asyncio.Event
    ) -> None:
        """Run the suspect that has waited longest, if that can be done now, and put off the others. Raises SessionLost."""
        chosen, *others = sorted(suspects, key=lambda suspect: suspect.waited, reverse=True)
        for other in others:
            await self._put_off(session, other)
        began = time.monotonic()
        if self._attempts.open and began < self._busy_until:
            await self._put_off(session, chosen)
            return
        try:
            if await self._wait_until_empty(session, chosen, stop):
                await self._run(session, chosen, stop, allowed)
            elif stop.is_set() or self._refuses(session, chosen):
                await self._give_back(chosen)
            else:
                await self._put_off(session, chosen)
        finally:
            self._busy_until = 2 * time.monotonic() - began

    async def _wait_until_empty(self, session: Session, suspect: Suspect, stop: asyncio.Event) -> bool:
        """Wait until no attempt runs here and an executor is free; False if that takes too long or is not wanted any more."""
        until = time.monotonic() + max(PATIENCE, suspect.waited * SHARE)
        if self._attempts.open:
            job, running = suspect.delivery.job_id, self._attempts.open
            logger().info(
                "letting running jobs end: a job is to run alone", job=job, losses=suspect.losses, running=running
            )
        while not stop.is_set() and not self._refuses(session, suspect):
            left = min(until - time.monotonic(), self._hold_every)
            if left <= 0:
                return False
            try:
                async with asyncio.timeout(left):
                    await first(self._empty(), stop.wait())
            except TimeoutError:
                await self._hold(suspect)
                continue
            return not stop.is_set()
        return False

    async def _empty(self) -> None:
        await self._attempts.idle()
        await self._executors.available()

    def _refuses(self, session: Session, suspect: Suspect) -> bool:
        """Return True if this worker takes no such job any more: it is quiet, or the queue is paused."""
        version = self._config.now
        return version.quiet(session.worker_id) or version.paused(suspect.queue)

    async def _run(self, session: Session, suspect: Suspect, stop: asyncio.Event, allowed: asyncio.Event) -> None:
        """Claim the suspect and wait for the end of its attempt."""
        again = False
        while not stop.is_set():
            try:
                left = await self._attempts.accept(session, [suspect.delivery], again=again, alone=True)
            except StoreUnavailable:
                again = True  # the renewer meets the same outage and logs it
                await asyncio.sleep(OUTAGE)
                await either(allowed, stop)
            except SessionLost:
                await self._give_back(suspect)
                raise
            else:
                break
        else:
            await self._give_back(suspect)
            return
        if left:
            await self._put_off(session, suspect)
            return
        await self._decided(suspect)
        if self._attempts.open:
            meters.ALONE.inc()
            logger().info(
                "a job runs alone: workers disappeared under it", job=suspect.delivery.job_id, losses=suspect.losses
            )
            await first(self._attempts.idle(), stop.wait())

    async def _put_off(self, session: Session, suspect: Suspect) -> None:
        """Make a suspect due again a little later, for any worker. If that fails, the leader offers it again."""
        delay = uniform(0.5, 1.0) * min(PUT_OFF[1], max(PUT_OFF[0], suspect.waited / 10))  # noqa: S311
        try:
            await self._attempts.put_off(session, suspect, delay)
        except StoreUnavailable:
            await self._give_back(suspect)
        else:
            await self._decided(suspect)
            with contextlib.suppress(TransportUnavailable):  # the leader's slow poll finds the job
                await self._transport.wake()

    async def _hold(self, suspect: Suspect) -> None:
        try:
            await self._transport.hold([suspect.delivery])
        except TransportUnavailable as error:
            self._redis.down(error)

    async def _decided(self, suspect: Suspect) -> None:
        try:
            await self._transport.decided([suspect.delivery])
        except TransportUnavailable as error:
            self._redis.down(error)

    async def _give_back(self, suspect: Suspect) -> None:
        try:
            await self._transport.give_back([suspect.delivery])
        except TransportUnavailable as error:
            self._redis.down(error)
