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
    """1. Runs functions for the default executor in threads of the attempt's own share, unless the app has set a default
    executor. 2. Notes which attempt has started a subprocess.
    """

    def __init__(self) -> None:
        super().__init__()
        self.background = BackgroundThreads()
        self._replaced = False

    def set_default_executor(self, executor: Executor | None) -> None:
        """Use this executor for all attempts."""
        super().set_default_executor(executor)
        self._replaced = executor is not None

    def run_in_executor(  # type: ignore[override]  # uvloop's stub and typeshed disagree about what it returns
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> Any:
        """Run a function in a thread, in a copy of this context, so that it belongs to this attempt. Return its future."""
        if executor is not None or self._replaced:
            return super().run_in_executor(executor, func, *args)
        work = functools.partial(contextvars.copy_context().run, func, *args)
        return asyncio.wrap_future(self.background.run(work, task_scope.share()), loop=self)

    async def subprocess_exec(self, *args: Any, **kwargs: Any) -> Any:
        """Start a program."""
        pair: Any = await super().subprocess_exec(*args, **kwargs)
        task_scope.process_started(pair[0].get_pid())
        return pair

    async def subprocess_shell(self, *args: Any, **kwargs: Any) -> Any:
        """Start a program by a shell."""
        pair: Any = await super().subprocess_shell(*args, **kwargs)
        task_scope.process_started(pair[0].get_pid())
        return pair
