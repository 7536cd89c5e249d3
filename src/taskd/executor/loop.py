"""The executor's event loop: uvloop, with threads and subprocesses that belong to attempts."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import uvloop

from taskd.executor import task_scope
from taskd.executor.background_threads import BackgroundThreads


class Loop(uvloop.Loop):
    """1. Runs what is given to the default executor in threads of the attempt's own share, unless the app has set a default
    executor. 2. Knows which attempt has started a subprocess.
    """

    def __init__(self) -> None:
        super().__init__()
        self.helpers = BackgroundThreads()
        self._chosen = False

    def set_default_executor(self, executor: Executor | None) -> None:
        """Use this one for all attempts."""
        super().set_default_executor(executor)
        self._chosen = executor is not None

    def run_in_executor(  # type: ignore[override]  # uvloop's stub and typeshed disagree about what it returns
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> Any:
        """Run a function in a thread, in a copy of this context: what it prints and starts is its attempt's. Its future."""
        if executor is not None or self._chosen:
            return super().run_in_executor(executor, func, *args)
        work = functools.partial(contextvars.copy_context().run, func, *args)
        return asyncio.wrap_future(self.helpers.run(work, task_scope.share()), loop=self)

    async def subprocess_exec(self, *args: Any, **kwargs: Any) -> Any:
        """Start a program."""
        pair: Any = await super().subprocess_exec(*args, **kwargs)
        task_scope.started(pair[0].get_pid())
        return pair

    async def subprocess_shell(self, *args: Any, **kwargs: Any) -> Any:
        """Start a program by a shell."""
        pair: Any = await super().subprocess_shell(*args, **kwargs)
        task_scope.started(pair[0].get_pid())
        return pair
