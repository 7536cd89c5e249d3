"""Threads for plain functions: they can be asked to stop, and nothing waits for them at exit."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import queue
import threading
from collections.abc import Callable

from taskd.runtime.log import logger
from taskd.worker.pool.protocol import End

_raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
_raise_in.argtypes = (ctypes.c_ulong, ctypes.py_object)


class Stopped(BaseException):
    """Raised inside a plain function that has to stop; a task lets it pass."""


Function = Callable[[], End]
OnEnd = Callable[[End | None], None]


class WorkerThread:
    """One thread that runs one function at a time.

    The thread takes a function, reports its end to the loop, and waits. So an exception that is raised in it from outside
    lands in this very function, in its report or in the wait, never in another attempt's function. A thread that was
    interrupted is not used again, so at most one such exception ever comes. It is caught wherever it lands: it is sent only
    once the thread has reached its `try`, and the thread leaves that only when it is dismissed, which is after it was sent.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._inbox: queue.SimpleQueue[Function | None] = queue.SimpleQueue()
        self._on_end: OnEnd = lambda end: None
        self._open = False
        self.interrupted = False
        self._thread = threading.Thread(target=self._serve, name="task", daemon=True)
        self._thread.start()

    def run(self, function: Function, on_end: OnEnd) -> None:
        """Run `function`, which has to catch all that the task raises, in the thread; then call `on_end` in the loop.

        `on_end` gets None if the function was interrupted, and may be called twice then.
        """
        self._on_end = on_end
        context = contextvars.copy_context()
        self._inbox.put(lambda: context.run(function))

    def interrupt(self) -> None:
        """Raise Stopped in the thread, at its next Python instruction."""
        if not self.interrupted:
            # Each side sets its flag before it looks at the other's: the thread sees this one, or gets the exception, or both.
            self.interrupted = True
            if self._open:
                _raise_in(self._thread.ident or 0, ctypes.py_object(Stopped))

    def dismiss(self) -> None:
        """Let the thread end once it is idle."""
        self._inbox.put(None)

    def _serve(self) -> None:
        try:
            self._open = True
            while (function := self._inbox.get()) is not None:
                self._report(None if self.interrupted else function())
        except Stopped:
            self._report(None)  # perhaps for a second time
        except BaseException:  # noqa: BLE001 - the last catch of this thread: without a report the attempt would never end
            self.interrupted = True  # not to be used again
            logger().error("a task's thread failed", exc_info=True)
            self._report(None)

    def _report(self, end: End | None) -> None:
        self._loop.call_soon_threadsafe(self._on_end, end)


class ThreadPool:
    """A pool that grows to the number of threads used at once, and keeps idle ones."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._idle: list[WorkerThread] = []

    def take(self) -> WorkerThread:
        """Return a thread for one function."""
        return self._idle.pop() if self._idle else WorkerThread(self._loop)

    def give_back(self, thread: WorkerThread) -> None:
        """Take back a thread whose function has ended."""
        if thread.interrupted:
            thread.dismiss()
        else:
            self._idle.append(thread)
