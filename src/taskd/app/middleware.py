"""Middlewares: generator functions of the author's that run around every attempt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from taskd.app.context import Context

#: A generator function. The code before its `yield` runs before the task; the `yield` gives the result or raises the error.
Middleware = Callable[[Context], Generator[None, Any, None]]


class ActiveMiddleware:
    """One middleware around one attempt. It sees how that ends; it changes that only by raising something else."""

    def __init__(self, middleware: Middleware, ctx: Context) -> None:
        self._generator = middleware(ctx)
        self._name = getattr(middleware, "__name__", repr(middleware))
        self.result: Any = None

    def __enter__(self) -> None:
        try:
            next(self._generator)
        except StopIteration:
            raise RuntimeError(f"the middleware {self._name} did not yield, so the task was not run") from None

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if error is None:
                self._generator.send(self.result)
            else:
                self._generator.throw(error)
        except StopIteration:
            return
        except BaseException as raised:
            if raised is not error:
                raise
            return
        self._generator.close()
        raise RuntimeError(f"the middleware {self._name} yielded a second time")


class MiddlewareChain:
    """All middlewares around one attempt, the first one outermost, in the attempt's own thread."""

    def __init__(self, middlewares: Sequence[Middleware], ctx: Context) -> None:
        self._middlewares = middlewares
        self._ctx = ctx

    def call(self, function: Callable[[], Any]) -> Any:
        """Call a plain function; return its result."""
        with ExitStack() as stack:
            active = self._enter(stack)
            result = function()
            for middleware in active:
                middleware.result = result
        return result

    async def await_(self, function: Callable[[], Awaitable[Any]]) -> Any:
        """Await an async function; return its result."""
        with ExitStack() as stack:
            active = self._enter(stack)
            result = await function()
            for middleware in active:
                middleware.result = result
        return result

    def _enter(self, stack: ExitStack) -> list[ActiveMiddleware]:
        active = []
        for middleware in self._middlewares:
            active.append(entered := ActiveMiddleware(middleware, self._ctx))
            stack.enter_context(entered)
        return active
