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


Work = Callable[[], End]
Done = Callable[[End | None], None]


class WorkerThread:
    """One thread that runs one function at a time.

    It never leaves the loop's sight: it takes work, tells its end, and waits. So an exception that is raised in it from outside
    meets this very work, its telling or the waiting, never somebody else's work. A seat that was interrupted is not used again,
    so at most one such exception ever comes. It is caught wherever it lands: it is sent when the thread has reached its `try`,
    and the thread leaves that only when it is dismissed, which is after it was sent.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._inbox: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._done: Done = lambda end: None
        self._open = False
        self.interrupted = False
        self._thread = threading.Thread(target=self._serve, name="task", daemon=True)
        self._thread.start()

    def give(self, work: Work, done: Done) -> None:
        """Run `work`, which is to catch all that the task raises, in the thread, then `done` in the loop.

        `done` gets None if the work was interrupted, and may be called twice then.
        """
        self._done = done
        context = contextvars.copy_context()
        self._inbox.put(lambda: context.run(work))

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
            while (work := self._inbox.get()) is not None:
                self._tell(None if self.interrupted else work())
        except Stopped:
            self._tell(None)  # perhaps for a second time
        except BaseException:  # noqa: BLE001 - the last catch of this thread: what is not told would be waited for
            self.interrupted = True  # not to be used again
            logger().error("a task's thread failed", exc_info=True)
            self._tell(None)

    def _tell(self, end: End | None) -> None:
        self._loop.call_soon_threadsafe(self._done, end)


class ThreadPool:
    """As many seats as are used at once; idle ones are kept."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._idle: list[WorkerThread] = []

    def take(self) -> WorkerThread:
        """A seat for one piece of work."""
        return self._idle.pop() if self._idle else WorkerThread(self._loop)

    def give_back(self, seat: WorkerThread) -> None:
        """The seat's work has told its end."""
        if seat.interrupted:
            seat.dismiss()
        else:
            self._idle.append(seat)
