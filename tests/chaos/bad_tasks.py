"""Tasks that crash, hang, exhaust memory or return bad values, for workers of a separate queue."""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from typing import Any

from taskd.app import App

app = App()

#: Values that the executor must refuse as results, by name.
RESULTS: dict[str, Any] = {
    "nul": "a\0b",
    "nan": float("nan"),
    "huge": "x" * (10 * 1024 * 1024),
    "bytes": b"raw",
    "object": object(),
}


@app.task
async def segfault() -> None:
    """Read address 0."""
    ctypes.string_at(0)


@app.task
async def exit_process() -> None:
    """End the process without a message."""
    os._exit(3)


@app.task
async def exhaust_memory() -> int:
    """Allocate more memory than this process may have."""
    pages = int(open("/proc/self/statm").read().split()[0])  # noqa: ASYNC230, SIM115  a file of the kernel
    limit = pages * resource.getpagesize() + 64 * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        return len(bytearray(1024 * 1024 * 1024))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@app.task
async def kill_worker() -> None:
    """Kill this task's worker, and with it every attempt that runs beside this one."""
    await asyncio.sleep(0.5)
    os.kill(os.getppid(), signal.SIGKILL)
    await asyncio.sleep(600)


@app.task
async def work(seconds: float) -> float:
    """Sleep for `seconds` and return them."""
    await asyncio.sleep(seconds)
    return seconds


@app.task
async def spin() -> int:
    """Hold the GIL for hours, in C."""
    return sum(range(10**14))


@app.task
def ignore_sigterm() -> None:
    """Wait for a program that ignores SIGTERM."""
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    subprocess.run([sys.executable, "-c", code], check=True)


@app.task
def swallow_exceptions() -> None:
    """Block SIGTERM and swallow every exception for ten minutes."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    end = time.monotonic() + 600
    while time.monotonic() < end:
        try:
            time.sleep(0.05)
        except BaseException:
            continue


@app.task
async def return_value(name: str) -> Any:
    """Return a value that is not JSON."""
    return RESULTS[name]
