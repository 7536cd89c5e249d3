"""Tasks that do their worst, for workers of a queue of their own."""

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

#: What results.py must refuse, by name.
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
async def leave() -> None:
    """End the process without a word."""
    os._exit(3)


@app.task
async def eat() -> int:
    """Ask for more memory than this process may have."""
    pages = int(open("/proc/self/statm").read().split()[0])  # noqa: ASYNC230, SIM115  it is a file of the kernel's
    limit = pages * resource.getpagesize() + 64 * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        return len(bytearray(1024 * 1024 * 1024))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@app.task
async def slay() -> None:
    """Kill the worker under which this runs, and so all that runs beside it."""
    await asyncio.sleep(0.5)
    os.kill(os.getppid(), signal.SIGKILL)
    await asyncio.sleep(600)


@app.task
async def toil(seconds: float) -> float:
    """Do no harm."""
    await asyncio.sleep(seconds)
    return seconds


@app.task
async def spin() -> int:
    """Hold the GIL, in C, for hours."""
    return sum(range(10**14))


@app.task
def ignore() -> None:
    """Start a program that ignores SIGTERM, and wait for it."""
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    subprocess.run([sys.executable, "-c", code], check=True)


@app.task
def stubborn() -> None:
    """Swallow whatever is raised here."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    end = time.monotonic() + 600
    while time.monotonic() < end:
        try:
            time.sleep(0.05)
        except BaseException:
            continue


@app.task
async def give(name: str) -> Any:
    """Return something that is no JSON."""
    return RESULTS[name]
