"""The asyncio tasks that an attempt starts: they belong to it, and end with it."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

#: Seconds that cancelled tasks may take before the log tells of them.
PATIENCE = 1.0

_current: contextvars.ContextVar[Offspring] = contextvars.ContextVar("offspring")


class Offspring:
    """The tasks of one attempt that are not done, found by the context that they inherit.

    1. Knows every task that the attempt's code starts, and what those start. 2. Cancels them when the attempt is over. 3. Says
    when the last one has ended. Out of its sight are threads (asyncio.to_thread, run_in_executor): Python cannot stop them, so
    such a function may run on after its attempt's end. So may a task that is started in a context of its own
    (`create_task(..., context=contextvars.Context())`): that is how attempts come to share a connection pool with tasks of
    its own.
    """

    __slots__ = ("over", "tasks")

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[Any]] = set()
        #: True from the attempt's end on: what its code still starts is cancelled at once.
        self.over = False

    def adopt(self) -> None:
        """Own what the code of this context starts from here on."""
        _current.set(self)

    def cancel(self) -> list[str]:
        """Cancel what is not done yet; the names of those coroutines."""
        left = [task for task in self.tasks if not task.done()]
        for task in left:
            task.cancel()
        return sorted(_name(task) for task in left)

    async def ended(self) -> bool:
        """Wait for all of them, for at most PATIENCE seconds; True if none is left."""
        if self.tasks:
            await asyncio.wait(tuple(self.tasks), timeout=PATIENCE)
        return not self.tasks


def start(
    loop: asyncio.AbstractEventLoop,
    coroutine: Any,
    context: contextvars.Context | None = None,
    **options: Any,
) -> asyncio.Task[Any]:
    """A task factory: an ordinary task, known to the attempt whose context it has."""
    if context is not None:
        options["context"] = context
        offspring = context.get(_current)
    else:
        offspring = _current.get(None)
    task = asyncio.Task(coroutine, loop=loop, **options)
    if offspring is not None and not task.done():
        offspring.tasks.add(task)
        task.add_done_callback(offspring.tasks.discard)
        if offspring.over:
            task.cancel()
    return task


def _name(task: asyncio.Task[Any]) -> str:
    coroutine = task.get_coro()
    return str(getattr(coroutine, "__qualname__", coroutine))
