"""Submitting in a transaction, for an App and for a Context: their methods are the same, but a Context's jobs have a parent."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, overload

if TYPE_CHECKING:
    from taskd.app.context import Context
    from taskd.app.handle import Handle, SyncHandle
    from taskd.app.submitter import Submitter

S = ParamSpec("S")
T = TypeVar("T")


class Within:
    """Has `submit_in` and `submit_in_sync`."""

    __slots__ = ()

    @overload
    async def submit_in(
        self,
        connection: Any,
        task: Submitter[Callable[Concatenate[Context, S], Coroutine[Any, Any, T]]],
        /,
        *args: S.args,
        **kwargs: S.kwargs,
    ) -> Handle[T]: ...
    @overload
    async def submit_in(
        self,
        connection: Any,
        task: Submitter[Callable[Concatenate[Context, S], T]],
        /,
        *args: S.args,
        **kwargs: S.kwargs,
    ) -> Handle[T]: ...
    @overload
    async def submit_in(
        self,
        connection: Any,
        task: Submitter[Callable[S, Coroutine[Any, Any, T]]],
        /,
        *args: S.args,
        **kwargs: S.kwargs,
    ) -> Handle[T]: ...
    @overload
    async def submit_in(
        self, connection: Any, task: Submitter[Callable[S, T]], /, *args: S.args, **kwargs: S.kwargs
    ) -> Handle[T]: ...

    async def submit_in(self, connection: Any, task: Submitter[Any], /, *args: Any, **kwargs: Any) -> Handle[Any]:
        """As `task.submit_in(connection, …)`; what a running task submits so has its job as parent."""
        return await self._maker(task).submit_in(connection, *args, **kwargs)

    @overload
    def submit_in_sync(
        self,
        connection: Any,
        task: Submitter[Callable[Concatenate[Context, S], Coroutine[Any, Any, T]]],
        /,
        *args: S.args,
        **kwargs: S.kwargs,
    ) -> SyncHandle[T]: ...
    @overload
    def submit_in_sync(
        self,
        connection: Any,
        task: Submitter[Callable[Concatenate[Context, S], T]],
        /,
        *args: S.args,
        **kwargs: S.kwargs,
    ) -> SyncHandle[T]: ...
    @overload
    def submit_in_sync(
        self,
        connection: Any,
        task: Submitter[Callable[S, Coroutine[Any, Any, T]]],
        /,
        *args: S.args,
        **kwargs: S.kwargs,
    ) -> SyncHandle[T]: ...
    @overload
    def submit_in_sync(
        self, connection: Any, task: Submitter[Callable[S, T]], /, *args: S.args, **kwargs: S.kwargs
    ) -> SyncHandle[T]: ...

    def submit_in_sync(self, connection: Any, task: Submitter[Any], /, *args: Any, **kwargs: Any) -> SyncHandle[Any]:
        """As `submit_in`, for connections that block."""
        return self._maker(task).submit_in_sync(connection, *args, **kwargs)

    def _maker(self, task: Submitter[Any]) -> Submitter[Any]:
        return task
