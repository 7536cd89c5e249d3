"""One attempt, ready to run."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from taskd.app.task import Task
from taskd.runtime import forks


class Around(Protocol):
    """What happens around the task's function, in the attempt's own thread."""

    def call(self, function: Callable[..., Any]) -> Any:
        """Around a plain function."""
        ...

    async def await_(self, function: Callable[..., Awaitable[Any]]) -> Any:
        """Around an async one."""
        ...


class Call:
    """A task with its arguments: an Invocation of the seam. `around` has what is around it, the outermost last."""

    __slots__ = ("_args", "_around", "_function", "_kwargs", "asynchronous")

    def __init__(
        self, task: Task[Any, Any], args: list[Any], kwargs: dict[str, Any], around: Sequence[Around] = ()
    ) -> None:
        self.asynchronous = task.asynchronous
        self._function = task.function
        self._args = args
        self._kwargs = kwargs
        self._around = around

    def __call__(self) -> Any:
        if not self._around:
            return self._function(*self._args, **self._kwargs)
        # A fork's code ends with the function: what is around it is its parent's to close.
        ending = forks.ending_async if self.asynchronous else forks.ending
        run: Callable[..., Any] = functools.partial(ending(self._function), *self._args, **self._kwargs)
        for one in self._around:
            run = functools.partial(one.await_ if self.asynchronous else one.call, run)
        return run()
