"""Tasks that leave threads, processes or another current folder behind."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import resource
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import taskd

app = taskd.App()


def _context(method: str) -> Any:
    return multiprocessing.get_context(method)


LONG = 600.0
gate = threading.Event()


@app.task
async def occupies_a_thread() -> None:
    await asyncio.to_thread(gate.wait, LONG)


@app.task
async def occupies_many_threads(count: int) -> None:
    await asyncio.gather(*(asyncio.to_thread(gate.wait, LONG) for _ in range(count)))


@app.task
async def uses_a_thread(number: int) -> int:
    return await asyncio.to_thread(pow, number, 2) + await asyncio.get_running_loop().run_in_executor(None, pow, 1, 2)


@app.task
async def uses_more_threads_than_its_share() -> int:
    counts = await asyncio.gather(*(asyncio.to_thread(_count) for _ in range(100)))
    return max(counts)


running = 0
lock = threading.Lock()


def _count() -> int:
    global running  # noqa: PLW0603
    with lock:
        running += 1
    time.sleep(0.01)
    with lock:
        count, running = running, running - 1
    return count


@app.task
async def sets_a_default_executor() -> str:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2, thread_name_prefix="own"))
    return await asyncio.to_thread(lambda: threading.current_thread().name)


@app.task
async def opens_the_gate() -> int:
    gate.set()
    return os.getpid()


@app.task
async def tells_its_executor() -> int:
    return os.getpid()


def _tell(path: str, *pids: int) -> None:
    with open(path + "~", "w") as file:
        file.write(" ".join(map(str, pids)))
    os.rename(path + "~", path)


SLEEP = ("sleep", "600")
#: A program that ignores SIGTERM and has a child.
STUBBORN = ("sh", "-c", "trap '' TERM; sleep 600 & sleep 600; sleep 600")


@app.task
async def starts_a_program(path: str, how: str) -> None:
    if how == "exec":
        pid = (await asyncio.create_subprocess_exec(*SLEEP)).pid
    elif how == "shell":
        pid = (await asyncio.create_subprocess_shell("sleep 600; true")).pid
    elif how == "stubborn":
        pid = (await asyncio.create_subprocess_exec(*STUBBORN)).pid
    elif how == "session":
        pid = (await asyncio.create_subprocess_exec(*STUBBORN, start_new_session=True)).pid
    elif how == "thread":
        pid = (await asyncio.to_thread(subprocess.Popen, SLEEP)).pid
    elif how == "default executor":
        pid = (await asyncio.get_running_loop().run_in_executor(None, subprocess.Popen, SLEEP)).pid
    else:
        pid = _start(how)
    _tell(path, pid)
    await asyncio.sleep(LONG)


@app.task
async def starts_a_program_and_ends(path: str) -> None:
    _tell(path, (await asyncio.create_subprocess_exec(*SLEEP)).pid)


@app.task
def starts_a_program_in_a_thread(path: str, how: str) -> None:
    _tell(path, _start(how))
    while True:
        time.sleep(0.01)


@app.task
def waits_for_a_program(path: str, how: str) -> None:
    script = f"echo $$ > {path}; exec sleep 600"
    if how == "session":
        subprocess.run(["sh", "-c", script], start_new_session=True, check=True)
    elif how == "pipe":
        subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, check=True)
    elif how == "stubborn":
        subprocess.run(["sh", "-c", f"trap '' TERM; {script}"], check=True)
    else:
        os.spawnlp(os.P_WAIT, "sh", "sh", "-c", script)


@app.task
def leaks_descriptors() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    with contextlib.suppress(OSError):
        while True:
            os.dup(2)


@app.task
def opens_a_file() -> int:
    with open(os.devnull) as file:
        return file.fileno()


def _start(how: str) -> int:
    if how == "thread of its own":
        pids: list[int] = []
        thread = threading.Thread(target=lambda: pids.append(subprocess.Popen(SLEEP, start_new_session=True).pid))
        thread.start()
        thread.join()
        return pids[0]
    if how == "pool of its own":
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(subprocess.Popen, SLEEP, start_new_session=True).result().pid
    if how == "Popen":
        return subprocess.Popen(SLEEP).pid
    if how == "spawn":
        return os.posix_spawnp(SLEEP[0], SLEEP, os.environ)
    if how == "fork":
        child = os.fork()
        if child == 0:
            time.sleep(LONG)
        return child
    process = _context(how.removeprefix("multiprocessing ")).Process(target=time.sleep, args=(LONG,))
    process.start()
    assert process.pid is not None
    return int(process.pid)


@app.task
def uses_processes() -> int:
    process = _context("spawn").Process(target=sys.exit, args=(5,))
    process.start()
    process.join(20)
    return int(process.exitcode)


@app.task
def changes_its_folder(path: str) -> None:
    os.chdir(path)


@app.task
def tells_its_folder() -> str:
    return os.getcwd()


@app.task
def removes_its_folder(path: str) -> None:
    """Leave the executor in a removed folder, and remove the folder to return to."""
    os.chdir(path)
    os.rmdir(path)
    os.rmdir(HOME)


HOME = os.getcwd()
