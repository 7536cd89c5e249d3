"""What providers have made: for an executor from its start to its end, and for one attempt."""

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

#: What a provider may raise to say what becomes of the job; everything else is told with the provider's name.
_VERDICTS = (Fail, RetryAt, Snooze)


class Stock:
    """The values of providers that are opened once, all in one asyncio task: some libraries mind who closes what was opened."""

    def __init__(self, needs: Mapping[str, Needs], given: Mapping[Provider, Any] | None = None) -> None:
        """`needs`: those of each task, by its name; what is `given` is there already."""
        self.needs = needs
        self.values: dict[Provider, Any] = dict(given or {})
        #: Each once, and still after what it depends on.
        self._providers = dict.fromkeys(provider for one in needs.values() for provider in one.executor)
        self._sources = {provider: sources for one in needs.values() for provider, sources in one.sources.items()}
        self._over = asyncio.Event()
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
        """Close them, the last one first; one that fails keeps no other from being closed."""
        self._over.set()
        if self._holder is not None:
            await self._holder

    async def _hold(self, opened: asyncio.Future[None]) -> None:
        async with AsyncExitStack() as stack:
            try:
                for provider in self._providers:
                    made = await _made(provider, self.values, self._sources, stack, _quietly)
                    self.values[provider] = made
            except BaseException as error:  # noqa: BLE001 - who waits for it has to know, whatever it is
                if not opened.done():
                    opened.set_exception(error)
                return
            opened.set_result(None)
            await self._over.wait()


class Supply:
    """What one attempt is given; what was opened for it is closed at its end, the last one first, and sees how it ended."""

    def __init__(self, needs: Needs, values: Mapping[Provider, Any], ctx: Context) -> None:
        self._needs = needs
        self._values = values
        self._ctx = ctx

    def call(self, function: Callable[..., Any]) -> Any:
        """Run a plain function."""
        if not self._needs.attempt:
            return function(**_filled(self._needs.parameters, self._values))
        values = dict(self._values)
        with ExitStack() as stack:
            for provider in self._needs.attempt:
                with _named(provider, "opened"):
                    found = provider.function(**self._arguments(provider, values))
                    manager = _manager(provider, found)
                    values[provider] = found if manager is None else manager.__enter__()
                if manager is not None:
                    stack.push(_leaving(provider, manager.__exit__))
            return function(**_filled(self._needs.parameters, values))

    async def await_(self, function: Callable[..., Awaitable[Any]]) -> Any:
        """Run an async function."""
        if not self._needs.attempt:
            return await function(**_filled(self._needs.parameters, self._values))
        values = dict(self._values)
        async with AsyncExitStack() as stack:
            for provider in self._needs.attempt:
                values[provider] = await _made(
                    provider, values, self._needs.sources, stack, _leaving_async, ctx=self._ctx
                )
            return await function(**_filled(self._needs.parameters, values))

    def _arguments(self, provider: Provider, values: Mapping[Provider, Any]) -> dict[str, Any]:
        return _filled(self._needs.sources[provider], values) | _context(provider, self._ctx)


Leaving = Callable[[Provider, Callable[..., Any]], Callable[..., Awaitable[None]]]


async def _made(
    provider: Provider,
    values: Mapping[Provider, Any],
    sources: Mapping[Provider, Sources],
    stack: AsyncExitStack,
    leaving: Leaving,
    ctx: Context | None = None,
) -> Any:
    """The provider's value; what is to be done after its use is put on the stack."""
    with _named(provider, "opened"):
        found = provider.function(**_filled(sources[provider], values), **_context(provider, ctx))
        if inspect.iscoroutine(found):
            found = await found
        manager = _manager(provider, found)
        if manager is None:
            return found
        if hasattr(manager, "__aenter__"):
            value, leave = await manager.__aenter__(), manager.__aexit__
        else:
            value, leave = manager.__enter__(), manager.__exit__
    stack.push_async_exit(leaving(provider, leave))
    return value


def _manager(provider: Provider, found: Any) -> Any:
    """What is to be entered for the value; None if the provider has returned the value itself."""
    if inspect.isasyncgen(found):
        return contextlib.asynccontextmanager(lambda: found)()
    if inspect.isgenerator(found):
        return contextlib.contextmanager(lambda: found)()
    return found if provider.entered else None


def _filled(sources: Sources, values: Mapping[Provider, Any]) -> dict[str, Any]:
    return {parameter: values[provider] for parameter, provider in sources.items()}


def _context(provider: Provider, ctx: Context | None) -> dict[str, Any]:
    return {} if provider.context is None else {provider.context: ctx}


@contextlib.contextmanager
def _named(provider: Provider, what: str) -> Iterator[None]:
    """Tell an error with the provider's name."""
    try:
        yield
    except _VERDICTS:
        raise
    except Exception as error:
        told = str(error).strip() or "it said nothing"
        raise RuntimeError(
            f"the dependency {provider.name!r} could not be {what}: {type(error).__name__}: {told}"
        ) from error


def _leaving(provider: Provider, leave: Callable[..., Any]) -> Callable[..., None]:
    """It sees how the attempt ended, and changes that only by raising something else."""

    def exit_(kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None:
            leave(kind, error, trace)
            return
        with _named(provider, "closed"):
            leave(None, None, None)

    return exit_


def _leaving_async(provider: Provider, leave: Callable[..., Any]) -> Callable[..., Awaitable[None]]:
    async def exit_(kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None:
            await _finished(leave(kind, error, trace))
            return
        with _named(provider, "closed"):
            await _finished(leave(None, None, None))

    return exit_


def _quietly(provider: Provider, leave: Callable[..., Any]) -> Callable[..., Awaitable[None]]:
    """For the end of an executor: what goes wrong is logged."""

    async def exit_(*_: object) -> None:
        try:
            await _finished(leave(None, None, None))
        except Exception:  # noqa: BLE001 - the process ends, and the log says what went wrong
            logger().error("a dependency could not be closed", provider=provider.name, exc_info=True)

    return exit_


async def _finished(left: Any) -> None:
    if inspect.isawaitable(left):
        await left
