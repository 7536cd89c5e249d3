"""Keeps forks of a process that runs tasks apart from it: a fork is a program of the task's own, which ends with its code.

Code that forks (os.fork, multiprocessing) expects signals in their default state, and a process that ends when its code does.
Without this module a fork would return into the machinery of its parent and act a second time in the parent's name.
"""

from __future__ import annotations

import asyncio
import contextlib
import dis
import io
import os
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any, TextIO

#: Exit status of a fork whose code has raised.
FAILED = 1


class _State:
    """The state of forks in a process; a fork inherits it."""

    forked = False
    watched = False
    #: The frame that runs the event loop, and that loop.
    loop_frame: FrameType | None = None
    loop: asyncio.AbstractEventLoop | None = None
    callbacks: tuple[Callable[[], None], ...] = ()


_state = _State()
#: In a thread that forks: the signals that it had blocked before.
_mask = threading.local()


def watch() -> None:
    """Make all later forks of this process independent programs."""
    if not _state.watched:
        _state.watched = True
        os.register_at_fork(before=_prepare, after_in_parent=_unblock, after_in_child=_become_own)


def loop_runs_here(loop: asyncio.AbstractEventLoop) -> None:
    """Register the calling frame as the one that runs `loop`: a fork never returns to it."""
    _state.loop_frame, _state.loop = sys._getframe(1), loop


def in_child(callback: Callable[[], None]) -> None:
    """Register a function that each fork calls to give up its parent's resources."""
    _state.callbacks += (callback,)


def no_reaction(*_: Any) -> None:
    """Handle a signal that this process ignores. Forks and programs that tasks start do not ignore it."""


def refuse() -> None:
    """Raise RuntimeError in a fork."""
    if _state.forked:
        raise RuntimeError("this process was forked by a task: only the task's own process can speak for its attempt")


def replace_sockets(*descriptors: int) -> None:
    """Replace these descriptors by closed sockets. Those of the parent stay as they are."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                os.dup2(ours.fileno(), descriptor, inheritable=False)


def leave(error: BaseException | None = None) -> None:
    """End this process if it is a fork whose code returned or raised `error`. Do nothing in its parent.

    The exit status is that of a program: 0, the code of SystemExit, or 1 with a traceback on stderr.
    """
    if not _state.forked:
        return
    status = FAILED
    try:
        status = _status(error)
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        _flush()
    finally:
        os._exit(status)


def ending(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a plain function so that a fork made in it ends with it."""

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            value = function(*args, **kwargs)
        except BaseException as error:
            leave(error)
            raise
        leave()
        return value

    return call


def ending_async(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap an async function so that a fork made in it ends with it."""

    async def call(*args: Any, **kwargs: Any) -> Any:
        try:
            value = await function(*args, **kwargs)
        except BaseException as error:
            leave(error)
            raise
        leave()
        return value

    return call


def _status(error: BaseException | None) -> int:
    if error is None:
        return 0
    if not isinstance(error, SystemExit):
        traceback.print_exception(error)
        return FAILED
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF if abs(error.code) <= sys.maxsize else 0xFF
    print(error.code, file=sys.stderr)  # noqa: T201 - a program's own message
    return FAILED


def _flush() -> None:
    """Flush the standard streams before a fork: otherwise both processes would write their contents."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _prepare() -> None:
    """Block signals until a fork has reset its handlers: an ignored signal would be lost."""
    _flush()
    _mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _mask.before)


def _become_own() -> None:
    """Turn a fork into a program of the task's own."""
    first, _state.forked = not _state.forked, True
    if first:
        _reset_signals()
        _reopen("stdout")
        _reopen("stderr")
    asyncio._set_running_loop(None)
    for callback in _state.callbacks:
        callback()
    _unblock()
    if first and _state.loop is not None:
        _detach(_state.loop)
        _end_at_loop()


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        if signal.getsignal(number) is no_reaction:  # the task's own handlers stay
            signal.signal(number, default)
    if signal.getsignal(signal.SIGCHLD) in (signal.SIG_DFL, None):
        # Python knows nothing of the loop's own handler, which would write into a pipe of the parent's.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _reopen(name: str) -> None:
    """Give the fork a standard stream of its own: another thread may hold the lock of the parent's for ever."""
    stream: TextIO = getattr(sys, name)
    with contextlib.suppress(Exception):  # a stream of the task's, or one that is closed, stays
        if isinstance(stream, io.TextIOWrapper) and stream.fileno() in (1, 2):
            own = open(  # noqa: SIM115 - open until the process ends
                stream.fileno(), "w", buffering=1, encoding=stream.encoding, errors=stream.errors, closefd=False
            )
            setattr(sys, name, own)


def _detach(loop: asyncio.AbstractEventLoop) -> None:
    """Give the loop an empty set of descriptors: changes to the inherited one would reach the parent's."""
    backend = getattr(loop, "_get_backend_id", None)
    if backend is not None and hasattr(select, "epoll"):
        with select.epoll() as empty, contextlib.suppress(OSError):
            os.dup2(empty.fileno(), backend(), inheritable=False)


def _end_at_loop() -> None:
    """End this process when its code returns to the parent's event loop, by its end or by an await."""
    base, frame = sys._getframe(), sys._getframe().f_back
    while frame is not None and frame is not _state.loop_frame:
        if str(frame.f_globals.get("__name__")).endswith(".popen_fork"):  # multiprocessing's forks never return
            return
        base, frame = frame, frame.f_back
    if frame is None:  # in another thread than the loop's
        return
    raised: BaseException | None = None

    def look(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal raised
        if event == "exception":
            raised = arg[1]
        elif event == "return":
            sys.settrace(None)
            last = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            if last.startswith("YIELD"):
                leave(
                    RuntimeError("a fork of an async task cannot await: the event loop is its parent's (asyncio.run())")
                )
            leave(None if last.startswith("RETURN") else raised)
        return look

    base.f_trace_lines = False
    base.f_trace = look
    sys.settrace(lambda *_: None)
