"""Notifies workers of running jobs that were cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from taskd.domain.errors import TransportUnavailable
from taskd.seams import Transport


class CancelNotifier:
    """Called after the commit of a cancel. Calls that come while a message is under way share the next one."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._cancelled: set[int] = set()
        self._sending: asyncio.Task[None] | None = None

    def __call__(self, job_ids: Collection[int]) -> None:
        """Notify workers of these jobs; never blocks, never raises."""
        self._cancelled.update(job_ids)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        while self._cancelled:
            job_ids, self._cancelled = self._cancelled, set()
            try:
                await self._transport.tell_cancelled(job_ids)
            except TransportUnavailable:
                return  # the workers' next heartbeats find these jobs
