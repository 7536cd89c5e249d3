"""Threads for plain functions: they can be asked to stop, and nothing waits for them at exit."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import queue
import threading
from collections.abc import Callable

from taskd.worker.frames import End

_raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
_raise_in.argtypes = (ctypes.c_ulong, ctypes.py_object)


class Stopped(BaseException):
    """Raised inside a plain function that has to stop; let it pass."""


Work = Callable[[], End]
Done = Callable[[End | None], None]


class Seat:
    """One thread that runs one function at a time.

    It never leaves the loop's sight: it takes work, tells its end, and waits. So an exception that is raised in it from outside
    meets this very work, its telling or the waiting, never somebody else's work. A seat that was interrupted is not used again.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._inbox: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._done: Done = lambda end: None
        self._over = False
        self.interrupted = False
        self._thread = threading.Thread(target=self._serve, name="task", daemon=True)
        self._thread.start()

    def give(self, work: Work, done: Done) -> None:
        """Run `work` in the thread, then `done` in the loop (with None if it was interrupted; perhaps twice)."""
        self._done = done
        context = contextvars.copy_context()
        self._inbox.put(lambda: context.run(work))

    def interrupt(self) -> None:
        """Raise Stopped in the thread, at its next Python instruction."""
        if not self.interrupted:
            self.interrupted = True
            _raise_in(self._thread.ident or 0, ctypes.py_object(Stopped))

    def dismiss(self) -> None:
        """Let the thread end once it is idle."""
        self._over = True
        self._inbox.put(None)

    def _serve(self) -> None:
        while not self._over:
            try:
                work = self._inbox.get()
                if work is not None:
                    self._tell(work())
            except Stopped:
                self._tell(None)

    def _tell(self, end: End | None) -> None:
        self._loop.call_soon_threadsafe(self._done, end)


class Seats:
    """As many seats as are used at once; idle ones are kept."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._idle: list[Seat] = []

    def take(self) -> Seat:
        """A seat for one piece of work."""
        return self._idle.pop() if self._idle else Seat(self._loop)

    def give_back(self, seat: Seat) -> None:
        """The seat's work has told its end."""
        if seat.interrupted:
            seat.dismiss()
        else:
            self._idle.append(seat)
