"""Follows which processes each attempt starts, so that those of an attempt that is stopped end with it.

Python has no hook that gives a new process's id, so the functions that start processes are wrapped, in executors only. The
wrappers cost nothing to tasks that start none.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from taskd.worker.guard import start_time

#: Seconds between looks at processes that were asked to end.
LOOK = 0.02
#: Helper processes of multiprocessing that all attempts of an executor share.
SHARED = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")

#: Processes by id, with when they began: an id may be another process's later.
Started = Mapping[int, int]


def follow(started: Callable[[int], None], moved: Callable[[], None]) -> None:
    """Call `started` with the id of each new process, `moved` when the current folder changes; in the thread that did that."""
    for name in ("fork", "forkpty", "posix_spawn", "posix_spawnp"):
        _wrap(os, name, lambda found, _: started(found[0] if isinstance(found, tuple) else found))
    for name in ("chdir", "fchdir"):
        _wrap(os, name, lambda *_: moved())

    def executed(pid: int, args: tuple[Any, ...]) -> None:
        if not any(name in os.fsdecode(word) for word in args[0] for name in SHARED):
            started(pid)

    _wrap(subprocess, "_fork_exec", executed)
    if "_posixsubprocess" in sys.modules:  # multiprocessing calls it itself, for spawn
        _wrap(sys.modules["_posixsubprocess"], "fork_exec", executed)


def _wrap(module: Any, name: str, after: Callable[[Any, tuple[Any, ...]], None]) -> None:
    original = getattr(module, name, None)
    if original is None:
        return

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        found = original(*args, **kwargs)
        after(found, args)
        return found

    setattr(module, name, call)


def alive(started: Started) -> list[int]:
    """Those that have not ended and are still what was started."""
    return [pid for pid, began in started.items() if pid > 0 and _runs(pid) and start_time(pid) == began]


async def end(started: Started, grace: float) -> list[int]:
    """End these processes and what is below them: SIGTERM, and SIGKILL after `grace` seconds. Those that were there."""
    roots = alive(started)
    if not roots:
        return []
    family = _with_start(roots) | _with_start(descendants(roots))
    _signal(roots, signal.SIGTERM)
    deadline = asyncio.get_running_loop().time() + grace
    while alive(family) and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(LOOK)
    family |= _with_start(descendants(alive(family)))
    _signal(alive(family), signal.SIGKILL)
    return roots


def descendants(pids: Iterable[int]) -> set[int]:
    """The processes below these, where the system tells (Linux)."""
    found: set[int] = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for file in Path(f"/proc/{pid}/task").glob("*/children"):
                children = {int(child) for child in file.read_text("ascii").split()}
                found |= children | descendants(children)
    return found


def _with_start(pids: Iterable[int]) -> dict[int, int]:
    return {pid: began for pid in pids if (began := start_time(pid)) is not None}


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(pid) == pid != os.getpgrp():  # it has begun a group of its own
                os.killpg(pid, number)
            else:
                os.kill(pid, number)


def _runs(pid: int) -> bool:
    """Whether it is neither gone nor a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in b"ZX"
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
