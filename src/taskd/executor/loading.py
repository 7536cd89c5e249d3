"""Finds the user's app by name: `pkg.module` or `pkg.module:attr`."""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

from taskd.executor.tracebacks import OURS
from taskd.runtime import forks
from taskd.seams import Invocation, Link, Order, TaskConnections, TaskRegistry
from taskd.settings import TaskSettings, WorkerSettings
from taskd.worker.pool.protocol import Transactions

#: The module whose app has the tasks that reach outward, as `taskd run` names it.
OUTWARD = "taskd.app.builtin.optional"


class NotLoadable(Exception):
    """The app cannot be loaded; the message is one line that says what to do."""


def load(name: str, settings: TaskSettings, max_result: int = WorkerSettings().max_result_bytes) -> TaskRegistry:
    """The app of this name, and the built-in tasks that the settings switch on. Raises NotLoadable.

    `max_result`: bytes that a result of the built-in ones may have.
    """
    own = _app(name)
    if not (settings.command_allow or settings.http_allow):
        return own
    from taskd.app.builtin import optional  # noqa: PLC0415  few workers switch them on

    try:
        more = optional.build(settings, max_result)
    except ValueError as error:
        raise NotLoadable(str(error)) from None
    return CombinedTasks(own, more)


def desk(settings: Transactions, worker_id: str) -> Callable[[], TaskConnections]:
    """Gives the executor's way to PostgreSQL, made at the first use."""

    @functools.cache
    def made() -> TaskConnections:
        from taskd.store.desk import Desk  # noqa: PLC0415  most tasks have no transaction: their executors load no driver

        return Desk(settings.dsn, size=settings.size, name=f"taskd:task:{worker_id}", pooled=settings.pooled)

    return made


async def start(name: str, tasks: TaskRegistry) -> None:
    """Let the app begin. Raises NotLoadable."""
    try:
        await tasks.start()
    except BaseException as error:  # noqa: BLE001 - as while it is imported
        forks.leave(error)
        raise NotLoadable(_explain(name, "", error)) from None


class CombinedTasks:
    """Two apps in one; where both have a task of a name, the first one's counts."""

    def __init__(self, first: TaskRegistry, second: TaskRegistry) -> None:
        self._first = first
        self._second = second

    @property
    def names(self) -> Collection[str]:
        """The tasks of both."""
        return {*self._first.names, *self._second.names}

    @property
    def timeouts(self) -> Mapping[str, float]:
        """The time-outs (seconds) of both."""
        return {**self._second.timeouts, **self._first.timeouts}

    def encoder(self, task: str) -> Callable[[Any], bytes] | None:
        """Return what makes JSON of this task's results, from the app that runs it."""
        return (self._first if task in self._first.names else self._second).encoder(task)

    def plain(self, value: Any) -> Any:
        """Return an object as JSON's own types."""
        return self._first.plain(value)

    async def start(self) -> None:
        """Start both."""
        await self._first.start()
        await self._second.start()

    async def stop(self) -> None:
        """Stop both, the second one first."""
        await self._second.stop()
        await self._first.stop()

    def prepare(self, order: Order, link: Callable[[], Link]) -> Invocation:
        """As each of them does."""
        return (self._first if order.task in self._first.names else self._second).prepare(order, link)


def _app(name: str) -> TaskRegistry:
    module_name, _, attribute = name.partition(":")
    attribute = attribute or "app"
    try:
        module = importlib.import_module(module_name)
    except BaseException as error:
        forks.leave(error)
        if isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            raise  # by Ctrl-C, which is no failure of the module's
        raise NotLoadable(_explain(name, module_name, error)) from None
    forks.leave()
    found: Any = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if _fits(found):
        return cast(TaskRegistry, found)
    apps = sorted(key for key, value in vars(module).items() if _fits(value))
    mend = f"; did you mean {module_name}:{apps[0]}?" if apps else "; write app = taskd.App() there"
    what = f"has no {attribute!r}" if found is None else f"has {attribute!r}, but it is no taskd.App"
    raise NotLoadable(f"app {name!r}: the module {module_name!r} {what}{mend}")


def look_here_too() -> None:
    """Let the app be found in the current folder, as it would be by `python -m`."""
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)


def _fits(value: Any) -> bool:
    return not isinstance(value, type) and all(
        hasattr(value, part) for part in ("names", "timeouts", "encoder", "prepare")
    )


def _explain(name: str, module: str, error: BaseException) -> str:
    if module and isinstance(error, ModuleNotFoundError) and error.name and (module + ".").startswith(error.name + "."):
        return f"app {name!r}: there is no module {error.name!r}; it is looked for in {os.getcwd()} and on PYTHONPATH"
    last = "".join(traceback.format_exception_only(error)).strip().splitlines() or [type(error).__name__]
    led_to_it = error.__cause__ or error
    places = [f for f in traceback.extract_tb(led_to_it.__traceback__) if not f.filename.startswith("<frozen")]
    places = [f for f in places if f.filename not in (__file__, importlib.__file__)]
    # Where the author's code is, if it is anywhere in it: a mistake is often found by what that calls.
    place = next((f for f in reversed(places) if not f.filename.startswith(OURS)), None)
    where = f" ({place.filename}:{place.lineno})" if place else ""
    if isinstance(error, SyntaxError) and error.filename:  # no frame is there: the code was not run
        where = f" ({error.filename}:{error.lineno})"
    return f"app {name!r} does not {'import' if module else 'start'}: {last[-1]}{where}"
