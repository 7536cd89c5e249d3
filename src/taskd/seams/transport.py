"""The transport, Redis Streams: it carries doorbells to the workers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Protocol

import msgspec

from taskd.domain.band import Band
from taskd.domain.explain.situation import EntryLocation
from taskd.domain.fencing import Delivery, Dispatch


class LeaderView(msgspec.Struct, frozen=True):
    """The leader's view for workers: its epoch, and whether it reaches PostgreSQL (docs/adr/0012-outliving-the-lease.md)."""

    epoch: int
    postgres: bool


class Transport(Protocol):
    """Carries doorbells and notifications. An entry may vanish or be repeated at any instant."""

    async def ping(self) -> None:
        """Return if Redis answers and takes writes."""
        ...

    async def ring(self, dispatches: Sequence[Dispatch]) -> None:
        """Add the entries of these dispatches, in their order."""
        ...

    async def depths(self, queues: Collection[str]) -> dict[tuple[str, Band], int]:
        """Return the number of undecided entries of each queue and band.

        A queue whose keys in Redis have another type is left out: no entry can be added to it.
        """
        ...

    async def missing(self, dispatches: Sequence[Dispatch]) -> list[Dispatch]:
        """Return those of `dispatches` whose entry is lost: no worker will get them. Removes entries without a holder."""
        ...

    async def locate(self, dispatch: Dispatch) -> EntryLocation:
        """Return the location of a dispatch's entry: with a worker, behind other entries, or gone."""
        ...

    async def incarnation(self) -> str:
        """Return the id of Redis's memory: it changes whenever Redis loses its data."""
        ...

    async def wake(self) -> None:
        """Tell the leader, wherever it runs, that there may be work to dispatch. Best effort."""
        ...

    def wakes(self) -> AsyncIterator[None]:
        """Yield once per wake, and after every reconnect, since wakes may have been missed. Never ends, never raises."""
        ...

    async def tell_cancelled(self, job_ids: Collection[int]) -> None:
        """Tell the workers of these jobs that they were cancelled, so that they ask PostgreSQL at once. Best effort."""
        ...

    def cancellations(self) -> AsyncIterator[frozenset[int] | None]:
        """Yield ids of running jobs that were cancelled; None after every (re)connect, since some may have been missed.

        Never ends, never raises.
        """
        ...

    async def publish_view(self, view: LeaderView, ttl: float) -> None:
        """Publish the leader's view for `ttl` seconds. A view of a later epoch stays."""
        ...

    async def view(self) -> LeaderView | None:
        """Return the leader's view, or None if it has expired."""
        ...

    async def fetch(self, queues: Sequence[str], slots: int, block: float) -> list[Delivery]:
        """Return at most `slots` deliveries, urgent bands first. Wait up to `block` seconds for the first."""
        ...

    async def decided(self, deliveries: Sequence[Delivery]) -> None:
        """Forget the entries of these deliveries: their claims were won or refused."""
        ...

    async def hold(self, deliveries: Sequence[Delivery]) -> None:
        """Keep other workers from adopting these deliveries yet: their claims are not decided."""
        ...

    async def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Add the entries of these deliveries again, for other workers."""
        ...

    async def adopt(self, queues: Sequence[str], slots: int, idle: float) -> list[Delivery]:
        """Take over deliveries that another worker left undecided for `idle` seconds. Forgets workers that are long gone."""
        ...

    async def leave(self, queues: Sequence[str]) -> None:
        """Give back what this consumer holds, and forget the consumer."""
        ...
