"""Ends what the code of an attempt leaves behind: asyncio tasks, processes, threads, and the current folder."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable

from taskd.executor.background_threads import BackgroundThreads
from taskd.executor.running_attempt import RunningAttempt
from taskd.executor.task_scope import TaskScope

#: The most seconds that processes of a stopped attempt get to end by themselves.
GRACE = 1.0
#: Threads occupied by ended attempts from which on another executor is to take this one's place.
EXHAUSTED = 50


class Cleanup:
    """Cleans up after attempts, and asks for a successor when they have left this executor too little."""

    def __init__(
        self, background: BackgroundThreads | None, patience: float, request_successor: Callable[[str], None]
    ) -> None:
        self._background = background
        self._patience = patience
        self._request_successor = request_successor
        self._requested = False
        self._home = _current_folder()

    @staticmethod
    async def end_tasks(running: RunningAttempt, scope: TaskScope) -> None:
        """Cancel the asyncio tasks that the attempt has left, and wait for them. A stop meanwhile cancels them again."""
        if names := scope.cancel():
            running.log.warning(
                "the task ended before asyncio tasks that it had started; they are cancelled", coroutines=names
            )
        logged = False
        while scope.tasks:
            try:
                if not await scope.ended() and not logged:
                    logged = True
                    running.log.warning(
                        "asyncio tasks do not end when they are cancelled, and so their attempt does not end"
                    )
            except asyncio.CancelledError:
                scope.cancel()

    async def end_processes(self, running: RunningAttempt, scope: TaskScope) -> None:
        """End the processes of a stopped attempt, before the worker's own patience is over."""
        left = running.stop_asked_at + 1.5 * self._patience - asyncio.get_running_loop().time()
        try:
            pids = await scope.end_processes(min(GRACE, max(0.0, left)))
        except Exception:
            running.log.error("processes of a stopped attempt may run on", exc_info=True)
            return
        if pids:
            running.log.warning("the attempt was stopped: processes that it had started were ended", pids=pids)

    def release(self, running: RunningAttempt, scope: TaskScope) -> None:
        """Count the threads that the ended attempt still occupies, and put back the current folder."""
        threads = scope.close(self._background, stopped=running.stopping)
        if threads:
            running.log.warning(
                "the attempt ended before functions that it had given to threads: they run on", threads=threads
            )
        if self._background is not None and self._background.abandoned >= EXHAUSTED:
            self._exhausted(f"{self._background.abandoned} threads are occupied by attempts that have ended")
        if scope.folder_changed and self._home and (folder := _current_folder()) != self._home:
            running.log.warning("the task changed the current folder of its executor: changed back", folder=folder)
            os.chdir(self._home)

    def check_descriptors(self) -> None:
        """Ask for a successor if this process can open no file. Called after failures: attempts share the limit."""
        if not _can_open_files():
            self._exhausted("attempts that have ended left no file descriptor to others")

    def _exhausted(self, reason: str) -> None:
        if not self._requested:
            self._requested = True
            self._request_successor(reason)


def _current_folder() -> str:
    """Return the current folder; empty if it was removed."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""


def _can_open_files() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno != errno.EMFILE
    return True
