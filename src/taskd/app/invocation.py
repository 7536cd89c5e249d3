"""One attempt, ready to run."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from taskd.app.task import Task
from taskd.runtime import forks


class Wrapper(Protocol):
    """Code around the task's function, in the attempt's own thread."""

    def call(self, function: Callable[..., Any]) -> Any:
        """Call a plain function; return its result."""
        ...

    async def await_(self, function: Callable[..., Awaitable[Any]]) -> Any:
        """Await an async function; return its result."""
        ...


class TaskInvocation:
    """Implements `taskd.seams.Invocation`: a task with its arguments. The last of the `wrappers` is the outermost."""

    __slots__ = ("_args", "_function", "_kwargs", "_wrappers", "asynchronous")

    def __init__(
        self, task: Task[..., Any], args: list[Any], kwargs: dict[str, Any], wrappers: Sequence[Wrapper] = ()
    ) -> None:
        self.asynchronous = task.asynchronous
        self._function = task.function
        self._args = args
        self._kwargs = kwargs
        self._wrappers = wrappers

    def __call__(self) -> Any:
        if not self._wrappers:
            return self._function(*self._args, **self._kwargs)
        # The code of a forked process ends with the function: the wrappers are its parent's to close.
        ending = forks.ending_async if self.asynchronous else forks.ending
        run: Callable[..., Any] = functools.partial(ending(self._function), *self._args, **self._kwargs)
        for wrapper in self._wrappers:
            run = functools.partial(wrapper.await_ if self.asynchronous else wrapper.call, run)
        return run()
