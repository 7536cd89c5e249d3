"""The transport, Redis Streams: the doorbell."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Protocol

import msgspec

from taskd.domain.band import Band
from taskd.domain.explain.situation import EntryLocation
from taskd.domain.fencing import Delivery, Dispatch


class LeaderView(msgspec.Struct, frozen=True):
    """What the leader tells workers of its own connection: semantics.md's "when may a worker outlive its lease?"."""

    epoch: int
    postgres: bool


class Transport(Protocol):
    """The doorbell. Whatever it holds may vanish or be repeated at any instant."""

    async def ping(self) -> None:
        """Return if Redis answers and takes writes."""
        ...

    async def ring(self, dispatches: Sequence[Dispatch]) -> None:
        """Announce dispatches, in their order."""
        ...

    async def depths(self, queues: Collection[str]) -> dict[tuple[str, Band], int]:
        """Return how many announced and undecided entries each queue and band has.

        A queue whose keys in Redis are something else is left out: it can be given nothing.
        """
        ...

    async def missing(self, dispatches: Sequence[Dispatch]) -> list[Dispatch]:
        """Those of `dispatches` that no worker will ever be given (entries that nobody holds are removed)."""
        ...

    async def locate(self, dispatch: Dispatch) -> EntryLocation:
        """Where a dispatch's entry is: with a worker, behind how many others, or gone."""
        ...

    async def incarnation(self) -> str:
        """What Redis's memory is called: whenever Redis loses it, the next one gets another name."""
        ...

    async def wake(self) -> None:
        """Tell the leader, wherever it runs, that there may be work to dispatch. Best effort."""
        ...

    def wakes(self) -> AsyncIterator[None]:
        """One item per wake (and one after every reconnect, since wakes may have been missed). Never ends, never raises."""
        ...

    async def tell_cancelled(self, job_ids: Collection[int]) -> None:
        """Tell whoever runs these jobs that they were cancelled, so that it looks at PostgreSQL at once. Best effort."""
        ...

    def cancellations(self) -> AsyncIterator[frozenset[int] | None]:
        """Ids of jobs that were cancelled as they ran; None after every (re)connect, since some may have been missed.

        Never ends, never raises.
        """
        ...

    async def publish_view(self, view: LeaderView, ttl: float) -> None:
        """Tell workers what the leader sees, for `ttl` seconds; a view of a later epoch stays."""
        ...

    async def view(self) -> LeaderView | None:
        """What the leader published, or None if that has run out."""
        ...

    async def fetch(self, queues: Sequence[str], slots: int, block: float) -> list[Delivery]:
        """At most `slots` deliveries, urgent bands first; waits up to `block` seconds for the first."""
        ...

    async def decided(self, deliveries: Sequence[Delivery]) -> None:
        """The claims of these were decided (won or refused): forget their entries."""
        ...

    async def hold(self, deliveries: Sequence[Delivery]) -> None:
        """These are still about to be decided here: no other worker is to adopt them yet."""
        ...

    async def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Announce these again, for somebody else to take."""
        ...

    async def adopt(self, queues: Sequence[str], slots: int, idle: float) -> list[Delivery]:
        """Deliveries whose worker left them undecided for `idle` seconds, now ours. Workers long gone are forgotten."""
        ...

    async def leave(self, queues: Sequence[str]) -> None:
        """Forget this consumer where it holds nothing."""
        ...
