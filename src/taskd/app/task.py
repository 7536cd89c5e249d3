"""Tasks: functions with names, and the options that their authors gave for their jobs."""

from __future__ import annotations

import functools
import inspect
import reprlib
from collections.abc import Callable, Coroutine
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, overload

from taskd.app.arguments import Arguments
from taskd.app.client_pool import ClientPool
from taskd.app.dependency import is_dependency
from taskd.app.job_factory import SubmitTarget
from taskd.app.results import ResultCodec
from taskd.app.submitter import Submitter
from taskd.domain.job import MAX_PRIORITY, MAX_RETRIES, NAME_RULE, is_name
from taskd.domain.submission import MAX_SECONDS

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
X = TypeVar("X")
R_co = TypeVar("R_co", covariant=True)
X_co = TypeVar("X_co", covariant=True)


class Task(Submitter[P, T]):
    """A function that jobs can name. Calling the task calls the function, as if it had no decorator; `submit` makes a job.

    `queue`, `priority`, `max_retries` and `timeout` (seconds) are None where the author gave none. In an annotation,
    `Task[P, T]` has the function's parameters and the result. A call of an async function must be awaited to get that.
    """

    def __init__(
        self,
        function: Callable[P, Any],
        clients: ClientPool,
        *,
        name: str | None = None,
        queue: str | None = None,
        priority: int | None = None,
        max_retries: int | None = None,
        timeout: float | None = None,
    ) -> None:
        """Raises TypeError or ValueError for a function or an option that cannot work."""
        self.function = function
        self.name = name if name is not None else _default_name(function)
        self.queue = queue
        self.priority = priority
        self.max_retries = max_retries
        self.timeout = timeout
        if not isinstance(self.name, str) or not is_name(self.name):
            raise ValueError(
                f"a task's name {NAME_RULE}, not {reprlib.repr(self.name)}: give it another by @app.task(name=...)"
            )
        _check_options(self)
        _check_function(self.name, function)
        self.asynchronous = _is_asynchronous(function)
        self.arguments = Arguments(self.name, function)
        self.dependent = any(map(is_dependency, inspect.signature(function).parameters.values()))
        self.results = ResultCodec(self.name, function)
        target = SubmitTarget(self.name, self.arguments.payload, self.results.read, clients)
        named = ("queue", "priority", "max_retries", "timeout")
        super().__init__(target, {name: value for name in named if (value := getattr(self, name)) is not None})
        functools.update_wrapper(self, function)

    def prepare(self) -> None:
        """Read the annotations, once everything they name is defined. Raises TypeError for one that cannot be read."""
        self.arguments.prepare()
        self.results.prepare()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.name!r}>"


class FunctionTask(Task[P, T], Generic[P, R, T]):
    """A task that keeps the function's return type R for type checkers. R is T, or a coroutine that returns T."""

    function: Callable[P, R]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)


class TaskFunction(Protocol[P, R_co, X_co]):
    """A callable with two return types, `R_co` and `X_co`, that are always the same.

    Each overload of TaskDecorator matches one of them. Without this type, mypy reports the overloads as ambiguous for functions
    with Any, since the types of their arguments differ. This type makes them equal.
    """

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> X_co: ...  # type: ignore[overload-cannot-match]


class TaskDecorator(Protocol):
    """Makes a task of a function: the result of `@app.task(...)` with options."""

    @overload
    def __call__(self, function: TaskFunction[P, R, Coroutine[Any, Any, T]], /) -> FunctionTask[P, R, T]: ...
    @overload
    def __call__(self, function: TaskFunction[P, R, X], /) -> FunctionTask[P, R, R]: ...


def _is_asynchronous(function: object) -> bool:
    """Return True for a function whose call gives a coroutine."""
    inner = function.func if isinstance(function, functools.partial) else function
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(getattr(inner, "__call__", None))  # noqa: B004 - not a test for callability


def _default_name(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", None)
    if not isinstance(name, str):
        raise TypeError(f"{function!r} has no name of its own: write @app.task(name=...)")
    return name


def _check_options(task: Task[..., Any]) -> None:
    if task.queue is not None and not (isinstance(task.queue, str) and is_name(task.queue)):
        raise ValueError(f"task {task.name!r}: queue {NAME_RULE}, not {reprlib.repr(task.queue)}")
    for option, value, most in (
        ("priority", task.priority, MAX_PRIORITY),
        ("max_retries", task.max_retries, MAX_RETRIES),
    ):
        if value is not None and (type(value) is not int or not 0 <= value <= most):
            raise ValueError(f"task {task.name!r}: {option} is a whole number from 0 to {most}, not {value!r}")
    timeout = task.timeout
    if timeout is not None and (type(timeout) not in (int, float) or not 0 < timeout <= MAX_SECONDS):
        raise ValueError(
            f"task {task.name!r}: timeout is a number of seconds above 0, at most {MAX_SECONDS}, not {timeout!r}"
        )


def _check_function(name: str, function: Callable[..., Any]) -> None:
    """Raise TypeError for an object that is no function, and for a generator function."""
    if not callable(function) or isinstance(function, type):
        raise TypeError(f"task {name!r}: {function!r} is no function")
    inner = function.func if isinstance(function, functools.partial) else function
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise TypeError(f"task {name!r}: a generator function would never run; return a list instead of yielding")
