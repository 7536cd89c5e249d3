"""Records which processes each attempt starts, so that those of an attempt that is stopped end with it.

Python has no hook that gives a new process's id, so the functions that start processes are wrapped, in executors only. The
wrappers cost nothing to tasks that start none.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

#: Helper processes of multiprocessing that all attempts of an executor share.
SHARED = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")


def follow(
    process_started: Callable[[int], None],
    folder_changed: Callable[[], None],
    inherit: Callable[[threading.Thread], None],
) -> None:
    """Call `process_started` with the id of each new process, and `folder_changed` when the current folder changes, in the
    thread that did that; and `inherit` with each thread before it begins, in the thread that starts it."""
    begin = threading.Thread.start

    def start(self: threading.Thread) -> None:
        inherit(self)
        begin(self)

    threading.Thread.start = start  # type: ignore[method-assign]  # wrapped as those below are
    for name in ("fork", "forkpty", "posix_spawn", "posix_spawnp"):
        _wrap(os, name, lambda result, _: process_started(result[0] if isinstance(result, tuple) else result))
    for name in ("chdir", "fchdir"):
        _wrap(os, name, lambda *_: folder_changed())

    def executed(pid: int, args: tuple[Any, ...]) -> None:
        if not any(name in os.fsdecode(word) for word in args[0] for name in SHARED):
            process_started(pid)

    _wrap(subprocess, "_fork_exec", executed)
    if "_posixsubprocess" in sys.modules:  # multiprocessing calls it itself, for spawn
        _wrap(sys.modules["_posixsubprocess"], "fork_exec", executed)


def _wrap(module: Any, name: str, after: Callable[[Any, tuple[Any, ...]], None]) -> None:
    original = getattr(module, name, None)
    if original is None:
        return

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        after(result, args)
        return result

    setattr(module, name, call)
