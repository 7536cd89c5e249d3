"""A process's life: signals -> quiet -> drain -> stop. A second signal ends it without draining."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import faulthandler
import gc
import os
import signal
import socket
from collections.abc import Coroutine
from typing import Any

import uvloop

from taskd.domain.errors import TaskdError
from taskd.runtime import stdio
from taskd.runtime.log import logger

#: New objects after which Python's garbage collector runs. Its default of 700 is low: a batch of jobs makes thousands, which
#: are freed without it.
COLLECT = (20_000, 10, 10)
#: Bytes from which glibc maps a block of its own, which is given back once it is free. Its default limit rises with the freed
#: blocks, up to 32 MiB, so that the process would keep the memory of the largest requests.
MAPPED = 1024 * 1024
_M_MMAP_THRESHOLD = -3


def instance_name(configured: str) -> str:
    """Return the configured name, or host-pid."""
    return configured or f"{socket.gethostname()}-{os.getpid()}"


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set. A second signal ends the process at once."""
    stop, asked_before = asyncio.Event(), False
    loop = asyncio.get_running_loop()

    def asked(name: str) -> None:
        nonlocal asked_before
        if asked_before:  # not `stop`: a worker may be draining because of something else
            logger().warning("asked to stop again: ending without draining", signal=name)
            os._exit(130)
        asked_before = True
        logger().info("stopping", signal=name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked, number.name)
    return stop


def run(main: Coroutine[Any, Any, int]) -> int:
    """Run a process's main coroutine on a fresh uvloop. Return its exit status.

    Its work goes on whatever stdout and stderr lead to. Should native code end the process, where it was is written to stderr.
    A TaskdError that the user must act on is raised as itself, from however deep a task it comes.
    """
    stdio.steady()
    with contextlib.suppress(RuntimeError, ValueError, OSError):
        faulthandler.enable()
    gc.freeze()  # imported objects stay: scanning them again and again stops everything for some milliseconds
    gc.set_threshold(*COLLECT)
    with contextlib.suppress(AttributeError, OSError):  # other C libraries have no such limit
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, MAPPED)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main)
    except BaseExceptionGroup as group:
        expected, unexpected = group.split(TaskdError)
        if expected is None or unexpected is not None:
            raise
        raise first_of(expected) from None


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first exception in a group that is not itself a group."""
    first = group.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first
