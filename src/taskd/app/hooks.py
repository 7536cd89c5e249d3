"""Functions that an app runs at the start and at the end of an executor process."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from taskd.runtime import forks
from taskd.runtime.log import logger

#: A function without arguments, async or plain.
Hook = Callable[[], Any]


class Hooks:
    """The functions that `on_start` and `on_stop` were given."""

    def __init__(self) -> None:
        self._on_start: list[Hook] = []
        self._on_stop: list[Hook] = []

    def add_start(self, hook: Hook) -> None:
        """Add a function to run at the start. Raises TypeError for one that takes arguments."""
        check_call(hook, "a function for on_start takes no arguments")
        self._on_start.append(hook)

    def add_stop(self, hook: Hook) -> None:
        """Add a function to run at the end. Raises TypeError for one that takes arguments."""
        check_call(hook, "a function for on_stop takes no arguments")
        self._on_stop.append(hook)

    async def start(self) -> None:
        """Run the functions for the start, in the order in which they were added. Raises what one of them raises."""
        for hook in self._on_start:
            await _run(hook)

    async def stop(self) -> None:
        """Run the functions for the end, the last one first. A failure is logged and does not keep the others from running."""
        for hook in reversed(self._on_stop):
            try:
                await _run(hook)
            except Exception:  # noqa: BLE001 - the process ends, and the log has the failure
                logger().error("a function given to on_stop failed", function=_name(hook), exc_info=True)


def check_call(function: Callable[..., Any], rule: str, *args: object) -> None:
    """Raise TypeError with the rule for a function that cannot be called with these arguments."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # some that are written in C have none
        return
    try:
        signature.bind(*args)
    except TypeError as error:
        raise TypeError(f"{rule}: {_name(function)}{signature} cannot be called like that ({error})") from None


async def _run(hook: Hook) -> None:
    try:
        result = hook()
        if inspect.isawaitable(result):
            await result
    except BaseException as error:
        forks.leave(error)
        raise
    forks.leave()


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function))
