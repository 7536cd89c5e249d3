"""Long polls: one question to PostgreSQL for everybody who waits, and none when nobody does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from itertools import islice

from taskd.api.reading import within
from taskd.domain.errors import StoreUnavailable
from taskd.runtime.log import logger
from taskd.seams import Reads

#: Seconds between two questions while anybody waits: the shortest, for who came just now, and the longest.
BRISK, CALM = 0.003, 0.03
#: Between these a pause is this share of the time that the latest comer has waited: who waited long can wait a bit longer.
SHARE = 0.5
#: Seconds until the next question after PostgreSQL did not answer one.
PAUSE = 0.5
#: The most ids in one question.
BATCH = 1000


class FinalWaiter:
    """Waits for jobs to become final. Duties: 1. ask for all waited ids at once; 2. wake whom the answer concerns; 3. close."""

    def __init__(self, overview: Reads) -> None:
        self._overview = overview
        self._waiting: dict[int, set[asyncio.Future[None]]] = {}
        self._came = 0.0
        self._poller: asyncio.Task[None] | None = None
        self._closed = False

    async def wait(self, job_id: int, seconds: float, gone: asyncio.Future[None]) -> None:
        """Return when the job is final, `seconds` are over, `gone` is done, or the waiter closes."""
        if self._closed or seconds <= 0:
            return
        final = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(job_id, set()).add(final)
        self._came = time.monotonic()
        if self._poller is None:
            self._poller = asyncio.create_task(self._poll())
        try:
            await asyncio.wait({final, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._leave(job_id, final)

    def close(self) -> None:
        """Answer everybody now: the process is about to stop."""
        self._closed = True
        self._wake(list(self._waiting))

    def _leave(self, job_id: int, final: asyncio.Future[None]) -> None:
        final.cancel()
        if (others := self._waiting.get(job_id)) is not None:
            others.discard(final)
            if not others:
                del self._waiting[job_id]

    async def _poll(self) -> None:
        try:
            while self._waiting:
                pause = await self._ask()
                await asyncio.sleep(pause)
        finally:
            self._poller = None

    async def _ask(self) -> float:
        """Ask once about all ids; how many seconds to pause then. The pause grows with what the answers take, too, so that a
        crowd that comes and goes costs PostgreSQL little."""
        began = time.monotonic()
        waited = iter(list(self._waiting))
        try:
            while batch := list(islice(waited, BATCH)):
                self._wake(await within(self._overview.final(batch)))
        except StoreUnavailable as error:
            logger().warning("waiting requests cannot see whether their jobs are final", error=str(error))
            return PAUSE
        except Exception:  # noqa: BLE001  a bug here must not leave everybody waiting in the dark
            logger().exception("asking for final jobs failed")
            return PAUSE
        now = time.monotonic()
        return min(CALM, max(BRISK, 9 * (now - began), SHARE * (now - self._came)))

    def _wake(self, job_ids: Collection[int]) -> None:
        for job_id in job_ids:
            for final in self._waiting.pop(job_id, ()):
                if not final.done():
                    final.set_result(None)
