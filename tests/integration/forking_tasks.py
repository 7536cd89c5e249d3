"""Tasks that fork in all ways that Python has."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import taskd

app = taskd.App()


def _context(method: str) -> Any:
    return multiprocessing.get_context(method)


DEADLINE = 20.0
#: Numbers of entries and exits of the code around a task in this process.
around: list[str] = []


@app.provide(per="attempt")
def session() -> Iterator[object]:
    around.append("open")
    yield object()
    around.append("closed")
    print("session closed by", "child" if os.getppid() == PARENT.get("pid") else "parent")


PARENT: dict[str, int] = {}


def status_of(pid: int) -> int:
    """Return the exit status of this child, -n for signal n. Raises AssertionError after the deadline."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        reaped, status = os.waitpid(pid, os.WNOHANG)
        if reaped:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    raise TimeoutError("the child does not end")


def in_child(how: str) -> str:
    """Run the code of a forked child."""
    if how == "exit":
        sys.exit(3)
    if how == "exit with a huge number":
        sys.exit(2**80)
    if how == "exit with text":
        sys.exit("a text")
    if how == "raise":
        raise ValueError("of the child")
    if how == "kill":
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(DEADLINE)
    if how == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(DEADLINE)
    if how == "own loop":
        asyncio.run(asyncio.sleep(0.01))
    if how == "nested":
        child = os.fork()
        if child == 0:
            sys.exit(7)
        sys.exit(status_of(child))
    return "child"


@app.task
def forks(how: str) -> int | str:
    child = os.fork()
    if child == 0:
        return in_child(how)
    return status_of(child)


@app.task
async def forks_async(how: str) -> int | str:
    child = os.fork()
    if child == 0:
        if how == "await":
            await asyncio.sleep(0)
        return in_child(how)
    return await asyncio.to_thread(status_of, child)


@app.task
async def forks_in_a_task_of_its_own(how: str) -> int | str:
    return await asyncio.create_task(forks_async.function(how))


@app.task
async def forks_in_a_thread(how: str) -> int | str:
    return await asyncio.to_thread(forks.function, how)


@app.task
def forks_with_a_session(how: str, opened: object = taskd.Depends(session)) -> list[object]:
    child = os.fork()
    if child == 0:
        return [in_child(how)]
    return [status_of(child)]


@app.task
def tells_what_was_left() -> list[str]:
    return around


@app.task
def forks_and_speaks(ctx: taskd.Context) -> int:
    child = os.fork()
    if child == 0:
        try:
            ctx.progress_sync(0.5)
        except RuntimeError:
            sys.exit(9)
    return status_of(child)


@app.task
def ends_children_at_once(count: int) -> list[int]:
    statuses = set()
    for _ in range(count):
        child = os.fork()
        if child == 0:
            time.sleep(DEADLINE)
            return []
        os.kill(child, signal.SIGTERM)
        statuses.add(status_of(child))
    return [*statuses]


@app.task
def forks_and_prints() -> int:
    print("half a line", end="")
    child = os.fork()
    if child == 0:
        print(" of the child", end="")
        return 0
    status = status_of(child)
    print()
    return status


def square(number: int) -> int:
    return number * number


@app.task
def terminates_a_pool(method: str) -> list[int]:
    pool = _context(method).Pool(2)
    squares: list[int] = pool.map(square, range(3))
    pool.terminate()
    pool.join()
    return squares


@app.task
async def leaves_a_pool(method: str) -> list[int]:
    with _context(method).Pool(2) as pool:
        return list(pool.map(square, range(3)))


@app.task
def maps_in_processes(method: str) -> list[int]:
    with ProcessPoolExecutor(2, mp_context=_context(method)) as pool:
        return list(pool.map(square, range(3)))


def _exit_with(code: int) -> None:
    sys.exit(code)


@app.task
def starts_a_process(method: str) -> int:
    process = _context(method).Process(target=_exit_with, args=(5,))
    process.start()
    process.join(DEADLINE)
    return int(process.exitcode)


@app.task
def has_a_preexec() -> str:
    return subprocess.run(["echo", "hi"], preexec_fn=os.setsid, capture_output=True, text=True, check=True).stdout


@app.task
def forks_on_a_terminal() -> list[object]:
    child, terminal = os.forkpty()
    if child == 0:
        os.execvp("echo", ["echo", "hi"])
    text = os.read(terminal, 100).decode()
    return [text.strip(), status_of(child)]


@app.task
def daemonizes(path: str) -> int:
    """Fork, start a new session, and fork again, as daemons do."""
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        with open(path, "w") as file:
            file.write("daemon")
        return 1
    return status_of(child)


@app.task
def ends_its_executor_leaving_a_fork(path: str) -> None:
    child = os.fork()
    if child == 0:
        time.sleep(DEADLINE)
        return
    with open(path, "w") as file:
        file.write(str(child))
    os._exit(4)
