"""The Context and the invocation of an attempt in a bench: the jobs that its code submits are recorded."""

from __future__ import annotations

from typing import Any

from taskd.app.client_pool import Clients, standing_in
from taskd.app.context import Context
from taskd.app.handle import Handle, SyncHandle
from taskd.app.job_factory import JobFactory
from taskd.seams import Invocation, Link, Order


class BenchInvocation:
    """An attempt during which `clients` replace those of every App."""

    def __init__(self, invocation: Invocation, clients: Clients) -> None:
        self.asynchronous = invocation.asynchronous
        self._invocation = invocation
        self._clients = clients

    def __call__(self) -> Any:
        return self._awaited() if self.asynchronous else self._called()

    def _called(self) -> Any:
        with standing_in(self._clients):
            return self._invocation()

    async def _awaited(self) -> Any:
        with standing_in(self._clients):
            return await self._invocation()


class BenchContext(Context):
    """A Context whose child jobs are recorded, also from threads that the task has started by itself."""

    __slots__ = ("_clients",)

    def __init__(self, order: Order, link: Link, clients: Clients) -> None:
        super().__init__(order, lambda: link)
        self._clients = clients

    async def submit(self, task: JobFactory[Any, Any], /, *args: Any, **kwargs: Any) -> Handle[Any]:
        """Record the job; its handle answers from the bench."""
        with standing_in(self._clients):
            return await super().submit(task, *args, **kwargs)

    def submit_sync(self, task: JobFactory[Any, Any], /, *args: Any, **kwargs: Any) -> SyncHandle[Any]:
        """Record the job; its handle answers from the bench."""
        with standing_in(self._clients):
            return super().submit_sync(task, *args, **kwargs)

    async def submit_in(self, connection: Any, task: JobFactory[Any, Any], /, *args: Any, **kwargs: Any) -> Handle[Any]:
        """Record the job as `submit` does. Nothing is stored on the connection."""
        return await self.submit(task, *args, **kwargs)

    def submit_in_sync(
        self, connection: Any, task: JobFactory[Any, Any], /, *args: Any, **kwargs: Any
    ) -> SyncHandle[Any]:
        """Record the job as `submit_sync` does. Nothing is stored on the connection."""
        return self.submit_sync(task, *args, **kwargs)
