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

#: The module of the built-in tasks that settings switch on, as `taskd run` names it.
OPTIONAL = "taskd.app.builtin.optional"


class NotLoadable(Exception):
    """The app cannot be loaded; the message is one line with the cause and the remedy."""


def load(name: str, settings: TaskSettings, max_result: int = WorkerSettings().max_result_bytes) -> TaskRegistry:
    """Return the app of this name, with the built-in tasks that the settings switch on. Raises NotLoadable.

    `max_result` is the most bytes of a result of a built-in task.
    """
    app = _app(name)
    if not (settings.command_allow or settings.http_allow):
        return app
    from taskd.app.builtin import optional  # noqa: PLC0415  few workers switch them on

    try:
        builtin = optional.build(settings, max_result)
    except ValueError as error:
        raise NotLoadable(str(error)) from None
    return CombinedTasks(app, builtin)


def task_connections(settings: Transactions, worker_id: str) -> Callable[[], TaskConnections]:
    """Return a function that gives the executor's connections to PostgreSQL, made at the first use."""

    @functools.cache
    def connections() -> TaskConnections:
        from taskd.store.task_connections import TaskConnectionPool  # noqa: PLC0415  most tasks have no transaction: their executors load no driver

        return TaskConnectionPool(
            settings.dsn, size=settings.size, name=f"taskd:task:{worker_id}", pooled=settings.pooled
        )

    return connections


async def start(name: str, tasks: TaskRegistry) -> None:
    """Run the app's start hooks. Raises NotLoadable."""
    try:
        await tasks.start()
    except BaseException as error:  # noqa: BLE001 - as while it is imported
        forks.leave(error)
        raise NotLoadable(_explain(name, "", error)) from None


class CombinedTasks:
    """Two apps in one. Where both have a task of the same name, the first app's counts."""

    def __init__(self, first: TaskRegistry, second: TaskRegistry) -> None:
        self._first = first
        self._second = second

    @property
    def names(self) -> Collection[str]:
        return {*self._first.names, *self._second.names}

    @property
    def timeouts(self) -> Mapping[str, float]:
        return {**self._second.timeouts, **self._first.timeouts}

    def encoder(self, task: str) -> Callable[[Any], bytes] | None:
        return (self._first if task in self._first.names else self._second).encoder(task)

    def plain(self, value: Any) -> Any:
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
        return (self._first if order.job.task in self._first.names else self._second).prepare(order, link)


def _app(name: str) -> TaskRegistry:
    module_name, _, attribute = name.partition(":")
    attribute = attribute or "app"
    try:
        module = importlib.import_module(module_name)
    except BaseException as error:
        forks.leave(error)
        if isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            raise  # by Ctrl-C, which is no failure of the module
        raise NotLoadable(_explain(name, module_name, error)) from None
    forks.leave()
    value: Any = module
    for part in attribute.split("."):
        value = getattr(value, part, None)
    if _fits(value):
        return cast(TaskRegistry, value)
    apps = sorted(key for key, member in vars(module).items() if _fits(member))
    hint = f"; did you mean {module_name}:{apps[0]}?" if apps else "; write app = taskd.App() there"
    problem = f"has no {attribute!r}" if value is None else f"has {attribute!r}, but it is no taskd.App"
    raise NotLoadable(f"app {name!r}: the module {module_name!r} {problem}{hint}")


def search_current_folder() -> None:
    """Let the app be found in the current folder, as `python -m` would find it."""
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)


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
    # The author's last frame, if there is one: a mistake is often noticed only in a library that it calls.
    place = next((f for f in reversed(places) if not f.filename.startswith(OURS)), None)
    where = f" ({place.filename}:{place.lineno})" if place else ""
    if isinstance(error, SyntaxError) and error.filename:  # no frame is there: the code was not run
        where = f" ({error.filename}:{error.lineno})"
    return f"app {name!r} does not {'import' if module else 'start'}: {last[-1]}{where}"
