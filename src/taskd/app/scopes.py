"""Values of providers, and their lifetimes: one executor, from its start to its end, and one attempt."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack
from typing import Any

from taskd.app.context import Context
from taskd.app.provider import Needs, Provider, Sources
from taskd.domain.errors import Fail, RetryAt, Snooze
from taskd.runtime.log import logger

#: Exceptions by which a provider decides the end of its attempt; every other one is reported with the provider's name.
_VERDICTS = (Fail, RetryAt, Snooze)


class ExecutorScope:
    """The values of providers that are opened once an executor.

    One asyncio task opens and closes all of them: some libraries want a value closed by the task that opened it.
    """

    def __init__(self, needs: Mapping[str, Needs], given: Mapping[Provider, Any] | None = None) -> None:
        """`needs`: those of each task, by its name. Values that are `given` are not opened."""
        self.needs = needs
        self.values: dict[Provider, Any] = dict(given or {})
        #: Each once, and still after its own dependencies.
        self._providers = dict.fromkeys(provider for need in needs.values() for provider in need.executor)
        self._sources = {provider: sources for need in needs.values() for provider, sources in need.sources.items()}
        self._closing = asyncio.Event()
        self._holder: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Open all of them. Raises RuntimeError, naming the provider, if one fails; the others are closed then."""
        if not self._providers:
            return
        opened = asyncio.get_running_loop().create_future()
        self._holder = asyncio.create_task(self._hold(opened))
        try:
            await opened
        except BaseException:
            self._holder.cancel()
            await asyncio.wait([self._holder])
            raise

    async def close(self) -> None:
        """Close them, the last one first; one that fails does not keep the others from being closed."""
        self._closing.set()
        if self._holder is not None:
            await self._holder

    async def _hold(self, opened: asyncio.Future[None]) -> None:
        async with AsyncExitStack() as stack:
            try:
                for provider in self._providers:
                    value = await _opened(provider, self.values, self._sources, stack, _logged_exit)
                    self.values[provider] = value
            except BaseException as error:  # noqa: BLE001 - open() waits for it, and raises it
                if not opened.done():
                    opened.set_exception(error)
                return
            opened.set_result(None)
            await self._closing.wait()


class AttemptScope:
    """The values of providers for one attempt.

    Those that are opened for it are closed at its end, the last one first, and see how the attempt ended.
    """

    def __init__(self, needs: Needs, values: Mapping[Provider, Any], ctx: Context) -> None:
        self._needs = needs
        self._values = values
        self._ctx = ctx

    def call(self, function: Callable[..., Any]) -> Any:
        """Call a plain function with its dependencies; return its result."""
        if not self._needs.attempt:
            return function(**_filled(self._needs.parameters, self._values))
        values = dict(self._values)
        with ExitStack() as stack:
            for provider in self._needs.attempt:
                with _named(provider, "opened"):
                    value = provider.function(**self._arguments(provider, values))
                    manager = _manager(provider, value)
                    values[provider] = value if manager is None else manager.__enter__()
                if manager is not None:
                    stack.push(_exit(provider, manager.__exit__))
            return function(**_filled(self._needs.parameters, values))

    async def await_(self, function: Callable[..., Awaitable[Any]]) -> Any:
        """Await an async function with its dependencies; return its result."""
        if not self._needs.attempt:
            return await function(**_filled(self._needs.parameters, self._values))
        values = dict(self._values)
        async with AsyncExitStack() as stack:
            for provider in self._needs.attempt:
                values[provider] = await _opened(
                    provider, values, self._needs.sources, stack, _async_exit, ctx=self._ctx
                )
            return await function(**_filled(self._needs.parameters, values))

    def _arguments(self, provider: Provider, values: Mapping[Provider, Any]) -> dict[str, Any]:
        return _filled(self._needs.sources[provider], values) | _context(provider, self._ctx)


#: Makes the function that an exit stack calls at the end, of a provider and its `__exit__`.
MakeExit = Callable[[Provider, Callable[..., Any]], Callable[..., Awaitable[None]]]


async def _opened(
    provider: Provider,
    values: Mapping[Provider, Any],
    sources: Mapping[Provider, Sources],
    stack: AsyncExitStack,
    make_exit: MakeExit,
    ctx: Context | None = None,
) -> Any:
    """Return the provider's value; push its closing on the stack."""
    with _named(provider, "opened"):
        value = provider.function(**_filled(sources[provider], values), **_context(provider, ctx))
        if inspect.iscoroutine(value):
            value = await value
        manager = _manager(provider, value)
        if manager is None:
            return value
        if hasattr(manager, "__aenter__"):
            value, leave = await manager.__aenter__(), manager.__aexit__
        else:
            value, leave = manager.__enter__(), manager.__exit__
    stack.push_async_exit(make_exit(provider, leave))
    return value


def _manager(provider: Provider, value: Any) -> Any:
    """Return the context manager that gives the value; None if the provider has returned the value itself."""
    if inspect.isasyncgen(value):
        return contextlib.asynccontextmanager(lambda: value)()
    if inspect.isgenerator(value):
        return contextlib.contextmanager(lambda: value)()
    return value if provider.entered else None


def _filled(sources: Sources, values: Mapping[Provider, Any]) -> dict[str, Any]:
    return {parameter: values[provider] for parameter, provider in sources.items()}


def _context(provider: Provider, ctx: Context | None) -> dict[str, Any]:
    return {} if provider.context is None else {provider.context: ctx}


@contextlib.contextmanager
def _named(provider: Provider, action: str) -> Iterator[None]:
    """Raise errors of the block as RuntimeError with the provider's name."""
    try:
        yield
    except _VERDICTS:
        raise
    except Exception as error:
        reason = str(error).strip() or "it said nothing"
        raise RuntimeError(
            f"the dependency {provider.name!r} could not be {action}: {type(error).__name__}: {reason}"
        ) from error


def _exit(provider: Provider, leave: Callable[..., Any]) -> Callable[..., None]:
    """Return the exit for an attempt: it sees how the attempt ended, and changes that only by raising something else."""

    def exit_(kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None:
            leave(kind, error, trace)
            return
        with _named(provider, "closed"):
            leave(None, None, None)

    return exit_


def _async_exit(provider: Provider, leave: Callable[..., Any]) -> Callable[..., Awaitable[None]]:
    """Return the same for an async task."""

    async def exit_(kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None:
            await _finished(leave(kind, error, trace))
            return
        with _named(provider, "closed"):
            await _finished(leave(None, None, None))

    return exit_


def _logged_exit(provider: Provider, leave: Callable[..., Any]) -> Callable[..., Awaitable[None]]:
    """Return the exit for the end of an executor: a failure is logged."""

    async def exit_(*_: object) -> None:
        try:
            await _finished(leave(None, None, None))
        except Exception:  # noqa: BLE001 - the process ends, and the log has the failure
            logger().error("a dependency could not be closed", provider=provider.name, exc_info=True)

    return exit_


async def _finished(result: Any) -> None:
    if inspect.isawaitable(result):
        await result
