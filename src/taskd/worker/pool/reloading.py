"""For development: watches source files, and replaces the executors when one changes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from taskd.runtime.duty import end, forever
from taskd.runtime.log import logger
from taskd.worker.pool.pool import ExecutorPool

#: The least seconds between scans, and the pause as a multiple of a scan's processor time: at most a twentieth of a processor.
EVERY, RARELY = 0.5, 20
#: Folders without the author's code.
SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages"})
#: The most file names in a log line.
NAMED = 5

Files = dict[str, tuple[int, int]]


def folders() -> list[str]:
    """Return the folders of the author's code: the current folder, and those of PYTHONPATH."""
    named = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    paths = [path for path in dict.fromkeys([os.getcwd(), *named]) if os.path.isdir(path)]
    return [path for path in paths if not any(path.startswith(other + os.sep) for other in paths)]


def scan(paths: Iterable[str]) -> Files:
    """Return every Python file below these folders, with its time and size."""
    files: Files = {}
    for top in paths:
        for folder, below, names in os.walk(top):
            if "pyvenv.cfg" in names:
                below.clear()
                continue
            below[:] = [name for name in below if not name.startswith(".") and name not in SKIPPED]
            for name in names:
                if name.endswith(".py"):
                    path = os.path.join(folder, name)
                    with contextlib.suppress(OSError):  # it is gone
                        status = os.stat(path)
                        files[path] = status.st_mtime_ns, status.st_size
    return files


def _timed_scan(paths: Iterable[str]) -> tuple[Files, float]:
    """Scan; also return the seconds of processor time that this took."""
    began = time.thread_time()
    return scan(paths), time.thread_time() - began


class Watcher:
    """Compares scans. They run in a thread: the worker's event loop has a lease to renew."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = list(paths)
        self._here = os.getcwd() + os.sep
        self._seen = scan(self._paths)

    async def changed(self) -> list[str]:
        """Wait until files have changed and then rest for a moment; return their names."""
        before = self._seen
        while True:
            now, spent = await asyncio.to_thread(_timed_scan, self._paths)
            await asyncio.sleep(max(EVERY, RARELY * spent))
            unchanged, self._seen = now == self._seen, now
            if unchanged and now != before:
                return sorted(
                    path.removeprefix(self._here) for path in {*now, *before} if now.get(path) != before.get(path)
                )


@asynccontextmanager
async def reloading(executors: ExecutorPool, watcher: Watcher) -> AsyncIterator[None]:
    """Reload the executors at each change while the block runs."""
    watching = asyncio.create_task(forever("watching the code", lambda: _follow(executors, watcher)))
    try:
        yield
    finally:
        await end(watching)


async def _follow(executors: ExecutorPool, watcher: Watcher) -> None:
    logger().info("watching the code for changes", folders=folders())
    while True:
        files = await watcher.changed()
        shown = [*files[:NAMED], *(["..."] if len(files) > NAMED else [])]
        logger().info("code changed: starting executors with it", files=shown)
        if await executors.reload():
            logger().info("reloaded", files=shown, tasks=list(executors.tasks))
