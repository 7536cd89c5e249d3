"""The shared part of every peer's script: the measured job and the command line. It needs only the standard library.

The environment has BENCH_DSN, BENCH_REDIS, and BENCH_FOLDER, in which the measured counts and times are written. `one`
submits N jobs one after another, `bulk` a thousand at a time, `interactive` one for every line of its input. Each submits one
more job first, so that connecting is not measured. It then prints when it began (seconds of the monotonic clock) and
how many seconds it took.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["BENCH_FOLDER"])
DSN = os.environ.get("BENCH_DSN", "")
REDIS = os.environ.get("BENCH_REDIS", "")
#: Jobs in one bulk submit.
BULK = 1000


class Tally:
    """Counts the jobs that this process ran, in a file that the harness reads: 8 bytes, as they are in memory."""

    def __init__(self) -> None:
        self._pid = 0
        self._n = 0

    def count(self) -> None:
        """Count one job."""
        if self._pid != os.getpid():  # a fork counts for itself
            self._open()
        self._n += 1
        struct.pack_into("<q", self._map, 0, self._n)

    def _open(self) -> None:
        self._pid, self._n = os.getpid(), 0
        with (FOLDER / f"{self._pid}.tally").open("w+b") as file:
            file.write(bytes(8))
            file.flush()
            self._map = mmap.mmap(file.fileno(), 8)


_tally = Tally()


def ran(sent: int) -> None:
    """Count a measured job; for a single one (`sent` is not 0) record when it was submitted and when it began."""
    if sent:
        with (FOLDER / f"{os.getpid()}.starts").open("a") as file:
            file.write(f"{sent} {time.monotonic_ns()}\n")
    _tally.count()


def command(
    one: Callable[[int], Any],
    bulk: Callable[[int], Any],
    work: Callable[[], Any] = lambda: None,
    prepare: Callable[[], Any] = lambda: None,
) -> None:
    """Run the subcommand of the command line.

    `one` submits a job whose payload is its argument; `bulk` submits that many with payload 0.
    """
    mode, *rest = sys.argv[1:]
    match mode:
        case "prepare":
            _run(prepare)
        case "work":
            _run(work)
        case _:
            asyncio.run(_submit(mode, int(rest[0]), one, bulk))


async def _submit(mode: str, jobs: int, one: Callable[[int], Any], bulk: Callable[[int], Any]) -> None:
    await _awaited(one(0))
    began = time.monotonic()
    match mode:
        case "one":
            for _ in range(jobs):
                await _awaited(one(0))
        case "bulk":
            for _ in range(jobs // BULK):
                await _awaited(bulk(BULK))
        case "interactive":
            for _ in sys.stdin:
                await _awaited(one(time.monotonic_ns()))
    print(began, time.monotonic() - began)


async def _awaited(result: Any) -> Any:
    return await result if isinstance(result, Awaitable) else result


def _run(function: Callable[[], Any]) -> None:
    async def run() -> None:
        await _awaited(function())

    asyncio.run(run())
