"""Long polls: one query for all requests that wait, and none while no request waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from itertools import islice

from taskd.api.reads import within
from taskd.domain.errors import StoreUnavailable
from taskd.runtime.log import logger
from taskd.seams import Reads

#: The shortest and the longest pause between two queries, in seconds.
MIN_PAUSE, MAX_PAUSE = 0.003, 0.03
#: Between these, the pause is this share of the time that the latest request has waited.
SHARE = 0.5
#: Seconds until the next query after one that failed.
RETRY_PAUSE = 0.5
#: The most ids in one query.
BATCH = 1000


class FinalWaiter:
    """Waits for jobs to become final: asks for all ids at once, and ends the waits of jobs that are final."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        self._waiting: dict[int, set[asyncio.Future[None]]] = {}
        self._latest = 0.0
        self._poller: asyncio.Task[None] | None = None
        self._closed = False

    async def wait(self, job_id: int, seconds: float, gone: asyncio.Future[None]) -> None:
        """Return when the job is final, after `seconds`, when `gone` is done, or when the waiter closes."""
        if self._closed or seconds <= 0:
            return
        final = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(job_id, set()).add(final)
        self._latest = time.monotonic()
        if self._poller is None:
            self._poller = asyncio.create_task(self._poll())
        try:
            await asyncio.wait({final, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._leave(job_id, final)

    def close(self) -> None:
        """End all waits, because the process is about to stop."""
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
        """Ask once about all ids; return the seconds to pause after that.

        The pause also grows with the duration of the queries, so that many short waits cost PostgreSQL little.
        """
        began = time.monotonic()
        job_ids = iter(list(self._waiting))
        try:
            while batch := list(islice(job_ids, BATCH)):
                self._wake(await within(self._reads.final(batch)))
        except StoreUnavailable as error:
            logger().warning(
                "cannot read which jobs are final: requests that wait for them go on waiting", error=str(error)
            )
            return RETRY_PAUSE
        except Exception:  # noqa: BLE001  a bug here must not end the polling
            logger().exception("cannot read which jobs are final")
            return RETRY_PAUSE
        now = time.monotonic()
        return min(MAX_PAUSE, max(MIN_PAUSE, 9 * (now - began), SHARE * (now - self._latest)))

    def _wake(self, job_ids: Collection[int]) -> None:
        for job_id in job_ids:
            for final in self._waiting.pop(job_id, ()):
                if not final.done():
                    final.set_result(None)
