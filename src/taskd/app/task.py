"""A task: a function with a name, and what its author wants of its jobs."""

from __future__ import annotations

import functools
import inspect
import reprlib
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

from taskd.app.arguments import Arguments
from taskd.app.connection import Connection
from taskd.app.dependency import is_dependency
from taskd.app.results import Results
from taskd.app.submitter import Submitter, Target
from taskd.domain.job import MAX_PRIORITY, MAX_RETRIES, NAME_RULE, is_name

#: Seconds: ten years, as for a job's own time-out.
MAX_TIMEOUT = 315_360_000

P = ParamSpec("P")
R = TypeVar("R")


class Task(Submitter[Callable[P, R]], Generic[P, R]):
    """A function that jobs can name. Calling the task calls the function, as if it had no decorator; `submit` makes a job.

    `queue`, `priority`, `max_retries` and `timeout` (seconds) are None where the author said nothing.
    """

    def __init__(
        self,
        function: Callable[P, R],
        connection: Connection,
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
        self.asynchronous = _asynchronous(self.name, function)
        self.arguments = Arguments(self.name, function)
        self.dependent = any(map(is_dependency, inspect.signature(function).parameters.values()))
        self.results = Results(self.name, function)
        target = Target(self.name, self.arguments, self.results, connection)
        named = ("queue", "priority", "max_retries", "timeout")
        super().__init__(target, {name: value for name in named if (value := getattr(self, name)) is not None})
        functools.update_wrapper(self, function)

    def prepare(self) -> None:
        """Read the annotations, now that everything they name is defined. Raises TypeError for one that cannot be read."""
        self.arguments.prepare()
        self.results.prepare()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.name!r}>"


def _default_name(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", None)
    if not isinstance(name, str):
        raise TypeError(f"{function!r} has no name of its own: write @app.task(name=...)")
    return name


def _check_options(task: Task[Any, Any]) -> None:
    if task.queue is not None and not (isinstance(task.queue, str) and is_name(task.queue)):
        raise ValueError(f"task {task.name!r}: queue {NAME_RULE}, not {reprlib.repr(task.queue)}")
    for option, value, most in (
        ("priority", task.priority, MAX_PRIORITY),
        ("max_retries", task.max_retries, MAX_RETRIES),
    ):
        if value is not None and (type(value) is not int or not 0 <= value <= most):
            raise ValueError(f"task {task.name!r}: {option} is a whole number from 0 to {most}, not {value!r}")
    timeout = task.timeout
    if timeout is not None and (type(timeout) not in (int, float) or not 0 < timeout <= MAX_TIMEOUT):
        raise ValueError(
            f"task {task.name!r}: timeout is a number of seconds above 0, at most {MAX_TIMEOUT}, not {timeout!r}"
        )


def _asynchronous(name: str, function: Callable[..., Any]) -> bool:
    if not callable(function) or isinstance(function, type):
        raise TypeError(f"task {name!r}: {function!r} is no function")
    inner = function.func if isinstance(function, functools.partial) else function
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise TypeError(f"task {name!r}: a generator function would never run; return a list instead of yielding")
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(getattr(inner, "__call__", None))  # noqa: B004 - not a test for callability
