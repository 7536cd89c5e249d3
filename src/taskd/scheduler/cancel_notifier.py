"""Tells workers of jobs that were cancelled under them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from taskd.domain.errors import TransportUnavailable
from taskd.seams import Transport


class CancelNotifier:
    """What a cancel calls after its commit. What comes while one message is under way shares the next one."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._news: set[int] = set()
        self._telling: asyncio.Task[None] | None = None

    def __call__(self, job_ids: Collection[int]) -> None:
        """Tell of these; never blocks, never raises."""
        self._news.update(job_ids)
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        while self._news:
            news, self._news = self._news, set()
            try:
                await self._transport.tell_cancelled(news)
            except TransportUnavailable:
                return  # the workers' next heartbeats find it
