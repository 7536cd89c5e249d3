"""Listens for jobs that were submitted in SQL: the NOTIFY of `taskd.submit_many`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg

from taskd.store.pinned import remaining, startup

CHANNEL = "taskd_jobs"
#: Seconds between tries while PostgreSQL is away.
PAUSE = 1.0


class PostgresListener:
    """Implements `taskd.seams.Wakes` on a connection of its own. A pooler of transactions passes no notifications on."""

    def __init__(self, dsn: str, *, name: str, pooled: bool) -> None:
        self._dsn = dsn
        self._name = name
        self._pooled = pooled

    async def wakes(self) -> AsyncIterator[None]:
        while not self._pooled:
            try:
                async with await self._connect() as connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    yield None
                    async for _ in connection.notifies():
                        yield None
            except psycopg.Error:
                await asyncio.sleep(PAUSE)  # the health check of PostgreSQL reports the outage
        await asyncio.Event().wait()

    async def _connect(self) -> psycopg.AsyncConnection[tuple[object, ...]]:
        connection = await psycopg.AsyncConnection.connect(
            self._dsn, autocommit=True, application_name=self._name, connect_timeout=5, keepalives_idle=30, **startup()
        )
        if left := remaining(connection.info.server_version):
            await connection.execute(left.encode())
        return connection
