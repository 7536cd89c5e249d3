"""Threads for functions that async tasks hand to the loop's default executor: asyncio.to_thread, loop.run_in_executor(None, …).

A thread cannot be stopped. In one pool for all, functions that ended attempts left running would take the threads of others.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from taskd.runtime import forks

#: The most functions of one attempt that run at once, as in Python's own default executor.
LIMIT = min(32, (os.cpu_count() or 1) + 4)
#: The most idle threads that are kept.
KEPT = 32


class Share:
    """One attempt's share of the threads: its functions that run, and those that wait because LIMIT run already."""

    __slots__ = ("busy", "closed", "waiting")

    def __init__(self) -> None:
        self.busy = 0
        #: True once the attempt has ended.
        self.closed = False
        self.waiting: deque[Work] = deque()


class Work:
    """One function to run, and its future."""

    __slots__ = ("function", "future", "share")

    def __init__(self, function: Callable[[], Any], share: Share) -> None:
        self.function = function
        self.future: Future[Any] = Future()
        self.share = share

    def run(self) -> None:
        """Run the function, unless it was cancelled while it waited."""
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            value = self.function()
        except BaseException as error:  # noqa: BLE001 - the future's to raise
            forks.leave(error)
            self.future.set_exception(error)
        else:
            forks.leave()
            self.future.set_result(value)


class BackgroundThread(threading.Thread):
    """A thread that serves many attempts, one after the other."""


class BackgroundThreads:
    """A pool that grows to the number of threads used at once. They are daemons: the executor's exit does not wait for them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[queue.SimpleQueue[Work]] = []
        #: For code that belongs to no attempt: hooks, providers.
        self._common = Share()
        #: Threads that still run a function of an attempt that has ended.
        self.abandoned = 0

    def run(self, function: Callable[[], Any], share: Share | None) -> Future[Any]:
        """Run the function in a thread, now or when the attempt's earlier functions leave room."""
        work = Work(function, share or self._common)
        with self._lock:
            if work.share.busy >= LIMIT:
                work.share.waiting.append(work)
                return work.future
            work.share.busy += 1
            self.abandoned += work.share.closed
            inbox = self._idle.pop() if self._idle else None
        if inbox is not None:
            inbox.put(work)
        else:
            self._start(work)
        return work.future

    def _start(self, work: Work) -> None:
        try:
            BackgroundThread(target=self._serve, args=(work,), name="background", daemon=True).start()
        except RuntimeError:  # the system has no more
            with self._lock:
                work.share.busy -= 1
                self.abandoned -= work.share.closed
            raise

    def close(self, share: Share, *, stopped: bool) -> int:
        """End an attempt's share. Return the number of its functions that still run.

        Of an attempt that was stopped, functions that wait never begin.
        """
        with self._lock:
            share.closed = True
            self.abandoned += share.busy
            waiting = list(share.waiting) if stopped else []
            for work in waiting:
                share.waiting.remove(work)
            busy = share.busy
        for work in waiting:
            work.future.cancel()
        return busy

    def _serve(self, work: Work) -> None:
        inbox: queue.SimpleQueue[Work] = queue.SimpleQueue()
        while True:
            work.run()
            share = work.share
            del work  # what the function has made goes when its future does
            with self._lock:
                following = share.waiting.popleft() if share.waiting else None
                if following is None:
                    share.busy -= 1
                    self.abandoned -= share.closed
                    if len(self._idle) >= KEPT:
                        return
                    self._idle.append(inbox)
            work = following or inbox.get()
            del following, share
