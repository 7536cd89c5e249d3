"""For development: notices that source files have changed, and lets new executors take over."""

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

#: Seconds between looks at least, and times that a look's own duration: so it takes a twentieth of a processor at most.
EVERY, RARELY = 0.5, 20
#: Folders in which no author's code is.
SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages"})
#: File names in a log line.
NAMED = 5

Files = dict[str, tuple[int, int]]


def folders() -> list[str]:
    """Where an executor finds the author's code: the current folder, and what PYTHONPATH names."""
    named = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    paths = [path for path in dict.fromkeys([os.getcwd(), *named]) if os.path.isdir(path)]
    return [path for path in paths if not any(path.startswith(other + os.sep) for other in paths)]


def look(paths: Iterable[str]) -> Files:
    """Every Python file below these folders, with its time and size."""
    found: Files = {}
    for top in paths:
        for folder, below, files in os.walk(top):
            if "pyvenv.cfg" in files:
                below.clear()
                continue
            below[:] = [name for name in below if not name.startswith(".") and name not in SKIPPED]
            for name in files:
                if name.endswith(".py"):
                    path = os.path.join(folder, name)
                    with contextlib.suppress(OSError):  # it is gone
                        status = os.stat(path)
                        found[path] = status.st_mtime_ns, status.st_size
    return found


def _timed_look(paths: Iterable[str]) -> tuple[Files, float]:
    """A look, and the seconds of processor time that it took."""
    began = time.thread_time()
    return look(paths), time.thread_time() - began


class Watcher:
    """Compares looks. They are taken in a thread: the worker's own loop has a lease to keep."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = list(paths)
        self._here = os.getcwd() + os.sep
        self._seen = look(self._paths)

    async def changed(self) -> list[str]:
        """Wait until files have changed, and then until they are left alone for a moment; their names."""
        before = self._seen
        while True:
            now, spent = await asyncio.to_thread(_timed_look, self._paths)
            await asyncio.sleep(max(EVERY, RARELY * spent))
            still, self._seen = now == self._seen, now
            if still and now != before:
                return sorted(
                    path.removeprefix(self._here) for path in {*now, *before} if now.get(path) != before.get(path)
                )


@asynccontextmanager
async def reloading(executors: ExecutorPool, watcher: Watcher) -> AsyncIterator[None]:
    """Reload the executors at each change, meanwhile."""
    watching = asyncio.create_task(forever("watching the code", lambda: _follow(executors, watcher)))
    try:
        yield
    finally:
        await end(watching)


async def _follow(executors: ExecutorPool, watcher: Watcher) -> None:
    logger().info("watching for changes of the code", folders=folders())
    while True:
        files = await watcher.changed()
        shown = [*files[:NAMED], *(["..."] if len(files) > NAMED else [])]
        logger().info("code changed: starting executors with it", files=shown)
        if await executors.reload():
            logger().info("reloaded", files=shown, tasks=list(executors.tasks))
