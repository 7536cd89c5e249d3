"""GET /queues: the live jobs of each queue, and the workers that serve it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from msgspec import UNSET

from taskd.api.reads import CachedRead
from taskd.api.request import Request
from taskd.api.responses import Response, document
from taskd.api.routes import READ_PROBLEMS, Operation, Resource, Result, Route
from taskd.api.views import QueuesView, QueueView
from taskd.domain.job import Depths, QueueDepth
from taskd.domain.scope import Scope
from taskd.runtime import meters
from taskd.seams import Coordinator, Reads

QUEUES = Operation("Cluster", "queues", "List the queues", {200: Result(QueuesView, "The queues")}, READ_PROBLEMS)


class QueueFigures:
    """Figures of queues: live jobs from PostgreSQL, kept for a moment, and slots from the registry.

    `GET /queues` and the metrics share one, so that both together read PostgreSQL no more often than one of them.
    """

    def __init__(self, reads: Reads, coordinator: Coordinator) -> None:
        self._reads = reads
        self._coordinator = coordinator
        #: By the queues of a token (None: all queues). Operators make the tokens, so there are few.
        self._depths: dict[frozenset[str] | None, CachedRead[Depths]] = {}

    async def depths(self, queues: frozenset[str] | None) -> Depths:
        """Return the live jobs of these queues, of all for None. Raises StoreUnavailable."""
        cached = self._depths.get(queues)
        if cached is None:
            read = partial(self._reads.depths, queues, meters.MOST_QUEUES)
            cached = self._depths[queues] = CachedRead(read, repeat=True)
        return await cached.get()

    def slots(self) -> dict[str, list[int]]:
        """Return the slots of each worker that serves a queue, by queue."""
        slots: dict[str, list[int]] = {}
        for member in self._coordinator.members("worker").values():
            for queue in member.queues:
                slots.setdefault(queue, []).append(member.slots)
        return slots


class QueuesResource(Resource):
    """Lists the queues that have live jobs or workers."""

    def __init__(self, figures: QueueFigures) -> None:
        self._figures = figures

    def routes(self) -> Sequence[Route]:
        return (Route("GET", "/queues", self.queues, Scope.READ, QUEUES),)

    async def queues(self, request: Request) -> Response:
        """GET /queues: live jobs, workers and slots of each queue that the caller's token may see."""
        request.query()
        read = await self._figures.depths(request.caller.queues)
        depths, slots = {depth.queue: depth for depth in read.queues}, self._figures.slots()
        empty = sorted(name for name in slots.keys() - depths.keys() if request.caller.sees(name))
        names = sorted([*depths, *empty[: max(0, meters.MOST_QUEUES - len(depths))]])
        views = [_queue(depths.get(name) or QueueDepth(queue=name), slots.get(name, [])) for name in names]
        return document(QueuesView(queues=views, left_out=read.left_out or UNSET))


def _queue(depth: QueueDepth, slots: list[int]) -> QueueView:
    return QueueView(
        queue=depth.queue,
        pending=depth.pending,
        queued=depth.queued,
        running=depth.running,
        oldest_pending=depth.oldest,
        workers=len(slots),
        slots=sum(slots),
    )
