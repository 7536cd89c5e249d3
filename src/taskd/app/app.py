"""An App: the tasks of one module, by name."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, TypeVar, Unpack, overload

import msgspec

from taskd.app.client_pool import ClientPool
from taskd.app.context import Context, TransactionalSubmit
from taskd.app.hooks import Hook, Hooks, check_call
from taskd.app.invocation import TaskInvocation, Wrapper
from taskd.app.middleware import Middleware, MiddlewareChain
from taskd.app.provider import Per, Provider, Providers
from taskd.app.schedules import Declarations, Policies, by_cron, by_interval
from taskd.app.scopes import AttemptScope, ExecutorScope
from taskd.app.task import FunctionTask, Task, TaskDecorator, TaskFunction
from taskd.app.testing.bench import Bench, Bind
from taskd.app.values import plain
from taskd.seams import Link, Order

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
X = TypeVar("X")
AnyTask = TypeVar("AnyTask", bound=Task[..., Any])
H = TypeVar("H", bound=Hook)
M = TypeVar("M", bound=Middleware)
F = TypeVar("F", bound=Callable[..., Any])


class App(TransactionalSubmit):
    """A collection of tasks. `app = App()` in a module makes it fit for `taskd worker --app module`.

    Code that submits jobs needs the schedulers: `server` has their addresses (URLs, comma-separated), `token` an API token.
    Without them TASKD_SERVER (else http://localhost:8080) and TASKD_TOKEN count, with their values at the first use.
    TASKD_CA_FILE names the file with the authorities that https:// trusts. Connections are kept open and shared; a request
    counts as unanswered after 10 seconds.
    """

    def __init__(self, *, server: str | None = None, token: str | None = None) -> None:
        self._tasks: dict[str, Task[..., Any]] = {}
        self._clients = ClientPool(server, token)
        self._hooks = Hooks()
        self._middleware: list[Middleware] = []
        self._declarations = Declarations()
        self._providers = Providers()
        #: The opened values of providers, from `start` to `stop`.
        self._scope: ExecutorScope | None = None

    # The order matters: the second overload takes every function.
    @overload
    def task(self, function: TaskFunction[P, R, Coroutine[Any, Any, T]], /) -> FunctionTask[P, R, T]: ...
    @overload
    def task(self, function: TaskFunction[P, R, X], /) -> FunctionTask[P, R, R]: ...
    @overload
    def task(
        self,
        *,
        name: str | None = None,
        queue: str | None = None,
        priority: int | None = None,
        max_retries: int | None = None,
        timeout: float | None = None,
    ) -> TaskDecorator: ...

    def task(self, *functions: Callable[..., Any], **options: Any) -> Any:
        """Make a task of a function: `@app.task`, or `@app.task(queue="images", timeout=30)`.

        `name` is the function's by default, `queue` is "default", `priority` 0 (to 100, the higher one first), `max_retries`
        3 (to 100), and `timeout`, in seconds, bounds one attempt; by default nothing does. They go with the jobs that are
        submitted by the task. For a job that comes by HTTP or the command line without them, only `timeout` counts.

        An async function runs on the executor's event loop, a plain one in a thread. The asyncio tasks that an async function
        starts are cancelled when it is over, and are awaited before the attempt ends; a task started with
        `context=contextvars.Context()` is not part of the attempt and goes on. A thread cannot be stopped: a function in
        asyncio.to_thread may outlive the attempt, so it should look at a flag, or be short. Processes that an attempt starts
        end with it if it is stopped. A fork ends with the function's code, and only its parent ends the attempt.

        Raises TypeError or ValueError when the function or an option cannot work, or the name is taken.
        """
        if functions:
            (function,) = functions
            return self._add(function, options)
        return lambda function: self._add(function, options)

    def on_start(self, function: H, /) -> H:
        """Run this function, async or plain, in every executor process before its first attempt: to open a pool, for instance.

        It takes no arguments. If it raises, the executor is not used; the worker logs the error, and does not start.
        """
        self._hooks.add_start(function)
        return function

    def on_stop(self, function: H, /) -> H:
        """Run this function in an executor process that ends in good order, within two seconds; not after a crash or a kill."""
        self._hooks.add_stop(function)
        return function

    def middleware(self, function: M, /) -> M:
        """Put a generator function around every attempt: it gets the Context, and yields once, where the task runs.

        The `yield` gives the task's result, or raises the task's exception: also Fail, RetryAt, Snooze, and those that stop an
        attempt. It runs where the task runs, so around async tasks it must not block. The first one is the outermost.
        """
        if not inspect.isgeneratorfunction(function):
            raise TypeError(f"a middleware is a generator function (def, with one yield), not {function!r}")
        check_call(function, "a middleware takes one argument, the Context", None)
        self._middleware.append(function)
        return function

    @overload
    def provide(self, function: F, /) -> F: ...

    @overload
    def provide(self, *, name: str | None = None, type: Any = None, per: Per = "executor") -> Callable[[F], F]: ...

    def provide(self, *functions: Any, name: str | None = None, type: Any = None, per: Per = "executor") -> Any:
        """Add a provider of dependencies: `@app.provide` on a function that returns a value, or yields it and then closes it.

        A task asks for it by a parameter `pool: Pool = taskd.Depends()`: by the type, which the return annotation (or `type`)
        says, by the name, which is the function's (or `name`), or by the function. Async or plain, it may depend on others in
        the same way. It is opened once an executor, at its start, if a task needs it; with `per="attempt"` for each attempt
        that needs it, inside of the middlewares. Then it may take the Context, and sees at its `yield` how the attempt ended.

        Raises TypeError or ValueError for a function that cannot work. Missing providers and circles are reported at the start.
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
        """Return a bench that runs single attempts inside a test, without servers; its docstring says what it does not do.

        Each attempt has the number `attempt` and the `checkpoint` of an earlier one, and is to stop if `cancelled`. `provide`
        has values to use instead of those that providers make, each by the provider's type, name or function; every other
        value is opened for each run and closed after it. `ctx.transaction()` gives `connection`. `results` has the results of
        jobs that the attempts submit, each by the task or its name: a value, an exception, or a function of the job's
        arguments. Other jobs stay pending, and to wait for one raises TimeoutError at once.
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
    ) -> Callable[[AnyTask], AnyTask]:
        """Declare when a task runs: `@app.cron("*/5 * * * *", tz="Europe/Berlin")` above `@app.task`.

        A declaration alone runs nothing: `taskd schedule apply --app MODULE` stores the declared schedules, and `taskd dev
        --app MODULE` does so by itself. `name` is the schedule's (else the task's), `arguments` are the task's. A task may have
        several schedules.

        Raises TypeError or ValueError for a schedule that cannot work.
        """
        return self._declared(by_cron(expression, tz), name, arguments, policies)

    def every(
        self,
        seconds: float,
        *,
        name: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        **policies: Unpack[Policies],
    ) -> Callable[[AnyTask], AnyTask]:
        """Declare that a task runs every so many seconds, counted from when the schedule is made: otherwise as `cron`."""
        return self._declared(by_interval(seconds), name, arguments, policies)

    def close(self) -> None:
        """Close the connections of the methods with `_sync`; the next use opens new ones."""
        self._clients.close()

    async def aclose(self) -> None:
        """Close the connections of the running event loop: do it before the loop ends, or Python may warn of open sockets."""
        await self._clients.aclose()

    @property
    def server(self) -> str | None:
        """The addresses that this App was given; None if environment variables name the schedulers."""
        return self._clients.server

    @property
    def queues(self) -> Collection[str]:
        """The queues that tasks name in their definition."""
        return {task.queue for task in self._tasks.values() if task.queue is not None}

    @property
    def names(self) -> Collection[str]:
        """The names of the tasks."""
        return self._tasks.keys()

    @property
    def tasks(self) -> Mapping[str, Task[..., Any]]:
        """The tasks of this app, by name."""
        return self._tasks

    @property
    def schedules(self) -> Mapping[str, Mapping[str, Any]]:
        """The schedules that are declared, by name, each as PUT /schedules/{name} takes it."""
        return self._declarations.all

    def encoder(self, task: str) -> Callable[[Any], bytes] | None:
        """Return the encoder of this task's results to JSON; None if Python's own encoder is enough."""
        return self._tasks[task].results.encoder

    def plain(self, value: Any) -> Any:
        """Return an object as JSON's own types: for checkpoints. Raises TypeError for an object that is no JSON."""
        return plain(value)

    @property
    def timeouts(self) -> Mapping[str, float]:
        """The time-outs (seconds) of the tasks whose definition has one; a job's own comes before it."""
        return {name: float(task.timeout) for name, task in self._tasks.items() if task.timeout is not None}

    def prepare(self, order: Order, link: Callable[[], Link]) -> TaskInvocation:
        """Check the order's payload and bind it.

        Raises LookupError for an unknown task, Fail for a payload that does not fit.
        """
        task = self._tasks.get(order.job.task)
        if task is None:
            raise LookupError(order.job.task)
        return self._bind(task, order.job.payload_json, lambda: Context(_completed(order, task), link), self._scope)

    async def start(self) -> None:
        """Run the functions for `on_start`, in their order, then open what tasks depend on. Raises what one of them raises.

        Before that, raises TypeError for a task whose annotations cannot be read.
        """
        for task in self._tasks.values():
            task.prepare()
        scope = ExecutorScope(
            {task.name: self._providers.needs(task) for task in self._tasks.values() if task.dependent}
        )
        await self._hooks.start()
        await scope.open()
        self._scope = scope

    async def stop(self) -> None:
        """Close what tasks depend on, then run the functions for `on_stop`, the last one first.

        A failure does not keep anything else from being closed or run.
        """
        if self._scope is not None:
            await self._scope.close()
            self._scope = None
        await self._hooks.stop()

    def _bind(
        self, task: Task[..., Any], payload: bytes, context: Callable[[], Context], scope: ExecutorScope | None
    ) -> TaskInvocation:
        if not self._middleware and not task.dependent:
            return TaskInvocation(task, *task.arguments.bind(payload, context))
        ctx = context()
        args, kwargs = task.arguments.bind(payload, lambda: ctx)
        wrappers: list[Wrapper] = []
        if task.dependent:
            if scope is None:
                raise RuntimeError(f"the task {task.name!r} has dependencies, and app.start() was not awaited")
            wrappers.append(AttemptScope(scope.needs[task.name], scope.values, ctx))
        if self._middleware:
            wrappers.append(MiddlewareChain(self._middleware, ctx))
        return TaskInvocation(task, args, kwargs, wrappers)

    @asynccontextmanager
    async def _opened(self, task: Task[..., Any], given: Mapping[Provider, Any]) -> AsyncIterator[Bind]:
        """Open what a task depends on, for a bench; give the function that binds the task to arguments."""
        known = {**(self._scope.values if self._scope is not None else {}), **given}
        scope = ExecutorScope({task.name: self._providers.needs(task, known)}, known)
        await scope.open()
        try:
            yield lambda payload, context: self._bind(task, payload, context, scope)
        finally:
            await scope.close()

    def _declared(
        self, times: Mapping[str, Any], name: str | None, arguments: Mapping[str, Any] | None, policies: Policies
    ) -> Callable[[AnyTask], AnyTask]:
        def declare(task: AnyTask) -> AnyTask:
            self._declarations.add(task, times, name, arguments, policies)
            return task

        return declare

    def _add(self, function: Callable[..., Any], options: dict[str, Any]) -> Task[..., Any]:
        task: Task[..., Any] = FunctionTask(function, self._clients, **options)
        if task.name in self._tasks:
            raise ValueError(f"there is a task named {task.name!r} already: give this one another name=")
        self._tasks[task.name] = task
        return task


def _completed(order: Order, task: Task[..., Any]) -> Order:
    """Return the order with the time-out of the task's definition, unless the job has its own."""
    if order.job.timeout is not None or task.timeout is None:
        return order
    return msgspec.structs.replace(order, job=msgspec.structs.replace(order.job, timeout=float(task.timeout)))
