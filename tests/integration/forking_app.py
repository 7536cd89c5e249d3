"""An app that forks during its import and during its start."""

from __future__ import annotations

import os
import sys

import taskd

app = taskd.App()


def status_of(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


first = os.fork()
if first != 0:
    IMPORTED = status_of(first)
started: list[int] = []


@app.on_start
def forks() -> None:
    child = os.fork()
    if child == 0:
        sys.exit(6)
    started.append(status_of(child))


@app.on_start
async def forks_async() -> None:
    child = os.fork()
    if child != 0:
        started.append(status_of(child))


@app.on_start
def is_last() -> None:
    print("the last hook runs", file=sys.stderr)


@app.task
def tells() -> list[int]:
    return [IMPORTED, *started]
