"""The connections of one process to PostgreSQL: each duty has its own, closed at the end of the process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from uuid import uuid4

from taskd.settings import Settings
from taskd.store.lane import Lane, Lanes
from taskd.store.listener import PostgresListener
from taskd.store.terms import leader_name


class Connections:
    """Makes the connections of one process, and closes them when `stack` ends."""

    def __init__(self, settings: Settings, stack: AsyncExitStack, instance: str) -> None:
        self._settings = settings.postgres
        self._stack = stack
        self._instance = instance[:40]

    def one(self, duty: str, options: Mapping[str, str] | None = None) -> Lane:
        """Return a lane for one duty."""
        return self._closed_at_end(f"taskd:{duty}:{self._instance}", options)

    def several(self, duty: str, size: int) -> Lanes:
        """Return a few lanes for one duty."""
        settings = self._settings
        name = f"taskd:{duty}:{self._instance}"
        lanes = Lanes(settings.dsn, name=name, deadline=settings.deadline, size=size, pooled=settings.pooled)
        self._stack.push_async_callback(lanes.close)
        return lanes

    def listener(self) -> PostgresListener:
        """Return the listener for jobs that are submitted in SQL. Its connection closes when the listening ends."""
        settings = self._settings
        return PostgresListener(settings.dsn, name=f"taskd:submitted:{self._instance}", pooled=settings.pooled)

    def leader(self, holder: object, options: Mapping[str, str] | None = None) -> Lane:
        """Return a lane for the leader of a shard, named so that a successor can find it."""
        return self._closed_at_end(leader_name(holder), options)

    def _closed_at_end(self, name: str, options: Mapping[str, str] | None) -> Lane:
        settings = self._settings
        lane = Lane(settings.dsn, name=name, deadline=settings.deadline, options=options, pooled=settings.pooled)
        self._stack.push_async_callback(lane.close)
        return lane


class LeaderConnections:
    """The connections of one leadership, named by a holder of its own: a successor finds these, and no others."""

    def __init__(self, connections: Connections) -> None:
        self.holder = uuid4()
        self._connections = connections
        self._lanes: list[Lane] = []

    def one(self, options: Mapping[str, str] | None = None) -> Lane:
        """Return a lane for one duty."""
        self._lanes.append(lane := self._connections.leader(self.holder, options))
        return lane

    async def rest(self) -> None:
        """Close the connections until they are needed again."""
        await asyncio.gather(*(lane.rest() for lane in self._lanes))
