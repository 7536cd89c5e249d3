"""An App: the tasks of one module, by name."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, TypeVar, Unpack, overload

import msgspec

from taskd.app.call import Around, Call
from taskd.app.connection import Connection
from taskd.app.context import Context
from taskd.app.middleware import Layers, Middleware
from taskd.app.provider import Per, Provider, Providers
from taskd.app.schedules import Declarations, Policies, by_cron, by_interval
from taskd.app.submitting import Within
from taskd.app.supply import Stock, Supply
from taskd.app.task import Task
from taskd.app.testing import Bench, Bind
from taskd.app.values import plain
from taskd.runtime import forks
from taskd.runtime.log import logger
from taskd.seams import Link, Order

P = ParamSpec("P")
R = TypeVar("R")
#: What runs at the beginning or the end of an executor process.
Hook = Callable[[], Any]
H = TypeVar("H", bound=Hook)
M = TypeVar("M", bound=Middleware)
F = TypeVar("F", bound=Callable[..., Any])


class App(Within):
    """A collection of tasks. `app = App()` in a module makes it fit for `taskd worker --app module`.

    Who submits jobs needs the schedulers: `server` has their addresses (URLs, comma-separated), `token` an API token. Without
    them TASKD_SERVER (else http://localhost:8080) and TASKD_TOKEN count, as they are at the first use; TASKD_CA_FILE names the
    file with the authorities that https:// trusts. Connections are kept open and shared; a request counts as unanswered after
    10 seconds.
    """

    def __init__(self, *, server: str | None = None, token: str | None = None) -> None:
        self._tasks: dict[str, Task[Any, Any]] = {}
        self._connection = Connection(server, token)
        self._on_start: list[Hook] = []
        self._on_stop: list[Hook] = []
        self._middleware: list[Middleware] = []
        self._declarations = Declarations()
        self._providers = Providers()
        #: What was opened for the tasks, from `start` to `stop`.
        self._stock: Stock | None = None

    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...

    @overload
    def task(
        self,
        *,
        name: str | None = None,
        queue: str | None = None,
        priority: int | None = None,
        max_retries: int | None = None,
        timeout: float | None = None,
    ) -> Callable[[Callable[P, R]], Task[P, R]]: ...

    def task(self, *functions: Callable[..., Any], **options: Any) -> Any:
        """Make a task of a function: `@app.task`, or `@app.task(queue="images", timeout=30)`.

        `name` is the function's by default, `queue` is "default", `priority` 0 (to 100, the higher one first), `max_retries`
        3 (to 100), and `timeout`, in seconds, bounds one attempt; without it nothing does. They go with the jobs that are
        submitted by the task; of a job that comes by HTTP or the command line, and names none, only `timeout` counts.

        An async function runs on the executor's event loop, a plain one in a thread. The asyncio tasks that an async function
        starts are cancelled when it is over, and are awaited before its end is told; a task started with
        `context=contextvars.Context()` is not its own and stays. A thread cannot be stopped: what asyncio.to_thread runs may
        outlive the attempt, so it should look at a flag, or be short. Processes that an attempt starts end with it if it is
        stopped. A fork ends with the function's code, and only its parent ends the attempt.

        Raises TypeError or ValueError when the function or an option cannot work, or the name is taken.
        """
        if functions:
            (function,) = functions
            return self._add(Task(function, self._connection, **options))
        return lambda wrapped: self._add(Task(wrapped, self._connection, **options))

    def on_start(self, function: H, /) -> H:
        """Run this function, async or plain, in every executor process before its first attempt: to open a pool, for instance.

        It takes no arguments. What it raises keeps the executor from being used; the worker says why, and does not start.
        """
        _check_call(function, "a function for on_start takes no arguments")
        self._on_start.append(function)
        return function

    def on_stop(self, function: H, /) -> H:
        """Run this function in an executor process that ends in good order, within two seconds; not after a crash or a kill."""
        _check_call(function, "a function for on_stop takes no arguments")
        self._on_stop.append(function)
        return function

    def middleware(self, function: M, /) -> M:
        """Put a generator function around every attempt: it gets the Context, and yields once, which is where the task runs.

        The `yield` gives the task's result, or raises what the task raised: also Fail, RetryAt, Snooze, and what stops an
        attempt. It runs where the task runs, so around async tasks it must not block. The first one is the outermost.
        """
        if not inspect.isgeneratorfunction(function):
            raise TypeError(f"a middleware is a generator function (def, with one yield), not {function!r}")
        _check_call(function, "a middleware takes one argument, the Context", None)
        self._middleware.append(function)
        return function

    @overload
    def provide(self, function: F, /) -> F: ...

    @overload
    def provide(self, *, name: str | None = None, type: Any = None, per: Per = "executor") -> Callable[[F], F]: ...

    def provide(self, *functions: Any, name: str | None = None, type: Any = None, per: Per = "executor") -> Any:
        """Make what tasks depend on: `@app.provide` on a function that returns it, or that yields it and then closes it.

        A task asks for it by a parameter `pool: Pool = taskd.Depends()`: by the type, which the return annotation (or `type`)
        says, by the name, which is the function's (or `name`), or by the function. Async or plain, it may depend on others in
        the same way. It is opened once an executor, at its start, if a task needs it; with `per="attempt"` for each attempt
        that needs it, inside of the middlewares. Then it may take the Context, and sees at its `yield` how the attempt ended.

        Raises TypeError or ValueError for what cannot work; what is missing, or goes in a circle, is told at the start.
        """
        if functions:
            (function,) = functions
            self._providers.add(Provider(function, name, type, per))
            return function

        def provided(wrapped: F) -> F:
            self._providers.add(Provider(wrapped, name, type, per))
            return wrapped

        return provided

    def testing(
        self,
        *,
        attempt: int = 1,
        checkpoint: Any = None,
        cancelled: bool = False,
        provide: Mapping[Any, Any] | None = None,
        connection: Any = None,
        results: Mapping[Any, Any] | None = None,
    ) -> Bench:
        """A bench that runs single attempts inside a test, without servers; its docstring says what it does not do.

        They are told that this is the `attempt` with this number, that an earlier one has left this `checkpoint`, and, if
        `cancelled`, that they are to stop. `provide` has values to be used instead of what providers make, each by the
        provider's type, name or function; what it does not have is opened for each run and closed after it. `connection` is
        what their `ctx.transaction()` gives them. `results` says what the jobs that they submit come to, each by the task or
        its name: a value, an exception, or a function of the job's arguments. Other jobs stay pending, and to wait for one
        raises TimeoutError at once.
        """
        given = {self._providers.find(key): value for key, value in (provide or {}).items()}
        return Bench(
            lambda task: self._opened(task, given),
            attempt=attempt,
            checkpoint=checkpoint,
            cancelled=cancelled,
            connection=connection,
            results=results,
        )

    def cron(
        self,
        expression: str,
        *,
        tz: str = "UTC",
        name: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        **policies: Unpack[Policies],
    ) -> Callable[[Task[P, R]], Task[P, R]]:
        """Declare when a task runs: `@app.cron("*/5 * * * *", tz="Europe/Berlin")` above `@app.task`.

        Nothing runs by that alone: `taskd schedule apply --app MODULE` makes the schedules what the module declares, and `taskd
        dev --app MODULE` does so by itself. `name` is
        the schedule's (else the task's), `arguments` are the task's. A task may have several schedules.

        Raises TypeError or ValueError for what cannot work.
        """
        return self._declared(by_cron(expression, tz), name, arguments, policies)

    def every(
        self,
        seconds: float,
        *,
        name: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        **policies: Unpack[Policies],
    ) -> Callable[[Task[P, R]], Task[P, R]]:
        """As `cron`, every so many seconds, counted from when the schedule is made."""
        return self._declared(by_interval(seconds), name, arguments, policies)

    def close(self) -> None:
        """Close the connections of `submit_sync` and its like; the next use opens new ones."""
        self._connection.close()

    async def aclose(self) -> None:
        """Close the connections of the running event loop: do it before the loop ends, or Python may warn of open sockets."""
        await self._connection.aclose()

    @property
    def server(self) -> str | None:
        """The addresses that this App was given; None if variables say where the schedulers are."""
        return self._connection.server

    @property
    def queues(self) -> Collection[str]:
        """The queues that tasks name in their definition."""
        return {task.queue for task in self._tasks.values() if task.queue is not None}

    @property
    def names(self) -> Collection[str]:
        """The names of the tasks."""
        return self._tasks.keys()

    @property
    def tasks(self) -> Mapping[str, Task[Any, Any]]:
        """The tasks of this app, by name."""
        return self._tasks

    @property
    def schedules(self) -> Mapping[str, Mapping[str, Any]]:
        """The schedules that are declared, by name, each as PUT /schedules/{name} takes it."""
        return self._declarations.all

    def encoder(self, task: str) -> Callable[[Any], bytes] | None:
        """Return what makes JSON of this task's results; None if Python's own encoder does."""
        return self._tasks[task].results.encoder

    def plain(self, value: Any) -> Any:
        """Return an object as JSON's own types: for checkpoints. Raises TypeError for one that is no JSON."""
        return plain(value)

    @property
    def timeouts(self) -> Mapping[str, float]:
        """The time-outs (seconds) of the tasks whose definition has one; a job's own comes before it."""
        return {name: float(task.timeout) for name, task in self._tasks.items() if task.timeout is not None}

    def prepare(self, order: Order, link: Callable[[], Link]) -> Call:
        """Check the order's payload and bind it. Raises LookupError for an unknown task, Fail for a payload that misfits."""
        task = self._tasks.get(order.job.task)
        if task is None:
            raise LookupError(order.job.task)
        return self._bind(task, order.job.payload_json, lambda: Context(_completed(order, task), link), self._stock)

    async def start(self) -> None:
        """Run what `on_start` was given, in that order, then open what tasks depend on. Raises what one of them raises.

        Before that, TypeError for a task whose annotations cannot be read.
        """
        for task in self._tasks.values():
            task.prepare()
        stock = Stock({task.name: self._providers.needs(task) for task in self._tasks.values() if task.dependent})
        for hook in self._on_start:
            await _run(hook)
        await stock.open()
        self._stock = stock

    async def stop(self) -> None:
        """Close what tasks depend on, then run what `on_stop` was given, the last one first.

        What fails keeps nothing else from being closed or run.
        """
        if self._stock is not None:
            await self._stock.close()
            self._stock = None
        for hook in reversed(self._on_stop):
            try:
                await _run(hook)
            except Exception:  # noqa: BLE001 - the process ends, and the log says what went wrong
                logger().error("a function given to on_stop failed", function=_named(hook), exc_info=True)

    def _bind(self, task: Task[Any, Any], payload: bytes, context: Callable[[], Context], stock: Stock | None) -> Call:
        if not self._middleware and not task.dependent:
            return Call(task, *task.arguments.bind(payload, context))
        ctx = context()
        args, kwargs = task.arguments.bind(payload, lambda: ctx)
        around: list[Around] = []
        if task.dependent:
            if stock is None:
                raise RuntimeError(f"the task {task.name!r} has dependencies, and app.start() was not awaited")
            around.append(Supply(stock.needs[task.name], stock.values, ctx))
        if self._middleware:
            around.append(Layers(self._middleware, ctx))
        return Call(task, args, kwargs, around)

    @asynccontextmanager
    async def _opened(self, task: Task[Any, Any], given: Mapping[Provider, Any]) -> AsyncIterator[Bind]:
        """For a bench: what binds a task to arguments, while what it depends on is open."""
        known = {**(self._stock.values if self._stock is not None else {}), **given}
        stock = Stock({task.name: self._providers.needs(task, known)}, known)
        await stock.open()
        try:
            yield lambda payload, context: self._bind(task, payload, context, stock)
        finally:
            await stock.close()

    def _declared(
        self, times: Mapping[str, Any], name: str | None, arguments: Mapping[str, Any] | None, policies: Policies
    ) -> Callable[[Task[P, R]], Task[P, R]]:
        def declare(task: Task[P, R]) -> Task[P, R]:
            self._declarations.add(task, times, name, arguments, policies)
            return task

        return declare

    def _add(self, task: Task[P, R]) -> Task[P, R]:
        if task.name in self._tasks:
            raise ValueError(f"there is a task named {task.name!r} already: give this one another name=")
        self._tasks[task.name] = task
        return task


def _completed(order: Order, task: Task[Any, Any]) -> Order:
    """The order with what the task's definition says where the job says nothing."""
    if order.job.timeout is not None or task.timeout is None:
        return order
    return msgspec.structs.replace(order, job=msgspec.structs.replace(order.job, timeout=float(task.timeout)))


def _check_call(function: Callable[..., Any], rule: str, *args: object) -> None:
    """Raise TypeError with the rule for a function that cannot be called like this."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # some that are written in C have none
        return
    try:
        signature.bind(*args)
    except TypeError as error:
        raise TypeError(f"{rule}: {_named(function)}{signature} cannot be called like that ({error})") from None


async def _run(hook: Hook) -> None:
    try:
        found = hook()
        if inspect.isawaitable(found):
            await found
    except BaseException as error:
        forks.leave(error)
        raise
    forks.leave()


def _named(hook: Hook) -> str:
    return getattr(hook, "__qualname__", repr(hook))
