"""Finds and ends processes together with their descendants."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path

from taskd.runtime.duty import aside
from taskd.runtime.host import started

#: Seconds between looks at processes that were asked to end.
LOOK = 0.02
#: The number of looks for processes that were started while others were killed.
ROUNDS = 10

#: Processes by id, with their start times: an id may belong to another process later.
Started = Mapping[int, int]


def noted(pids: Iterable[int]) -> dict[int, int]:
    """Return those that run, with their start times."""
    return {pid: began for pid in pids if (began := started(pid)) >= 0}


def alive(processes: Started) -> list[int]:
    """Return those that have not ended and are still the same."""
    return [pid for pid, began in processes.items() if started(pid) == began]


async def end(processes: Started, grace: float, mark: bytes = b"") -> list[int]:
    """End these processes, their descendants, and all with `mark` in their environment. Return the given ones that ran.

    The given ones get SIGTERM first. When they have ended, or `grace` seconds are over, all the others get SIGKILL.
    """
    roots = alive(processes)
    if not roots and not mark:
        return []
    family = await aside(_family, roots, mark)
    _signal(roots, signal.SIGTERM)
    deadline = asyncio.get_running_loop().time() + grace
    while alive(processes) and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(LOOK)
    for _ in range(ROUNDS):
        family |= await aside(_family, alive(family), mark)
        if not (left := alive(family)):
            break
        _signal(left, signal.SIGKILL)
        await asyncio.sleep(LOOK)
    return roots


def descendants(pids: Iterable[int]) -> set[int]:
    """Return the descendants of these processes; none where the system does not tell (other than Linux)."""
    found: set[int] = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for file in Path(f"/proc/{pid}/task").glob("*/children"):
                children = {int(child) for child in file.read_text("ascii").split()}
                found |= children | descendants(children)
    return found


def marked(mark: bytes) -> set[int]:
    """Return the processes that began with this variable (NAME=VALUE) in their environment; none elsewhere than on Linux."""
    found: set[int] = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone meanwhile, or another user's
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.add(int(folder.name))
    return found


def _family(roots: Iterable[int], mark: bytes) -> dict[int, int]:
    return noted({*roots, *descendants(roots), *(marked(mark) if mark else ())})


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(pid) == pid != os.getpgrp():  # it has begun a group of its own
                os.killpg(pid, number)
            else:
                os.kill(pid, number)
