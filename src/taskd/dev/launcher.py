"""The last steps before a child becomes its program: change user, die with the supervisor, exec.

Run as a script, `python -I -S launcher.py JSON`, so it imports nothing of taskd and starts in milliseconds. Changing the user
comes first because the kernel forgets the parent-death signal when credentials change. Everything is imported before that:
the new user may not be able to read this Python.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1
#: The exit status when the program cannot be started, as in shells.
CANNOT_START = 126


def main(request: dict[str, Any]) -> NoReturn:
    """Become the requested program. Exits with CANNOT_START and one line on stderr when that is impossible."""
    try:
        if request["user"] is not None:
            _become(*request["user"])
        if request["folder"] is not None:
            os.chdir(request["folder"])
        _die_with(request["parent"], request["death_signal"], request["pipe"])
        os.execv(request["program"][0], request["program"])  # noqa: S606  no shell, on purpose
    except OSError as error:
        print(f"cannot start {request['program'][0]}: {error}", file=sys.stderr)  # noqa: T201  the child's log
        os._exit(CANNOT_START)


def _become(uid: int, gid: int) -> None:
    os.setgroups([gid])
    os.setgid(gid)
    os.setuid(uid)


def _die_with(parent: int, death_signal: int, pipe: int) -> None:
    if sys.platform == "linux":
        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
        os.close(pipe)
    else:
        _watchdog(pipe, death_signal)
    if os.getppid() != parent:  # the parent died before this process asked for its signal
        os._exit(CANNOT_START)


def _watchdog(pipe: int, death_signal: int) -> None:
    """Fork a process that signals this one when the other end of `pipe` is closed.

    It is forked twice, so that the program has no child that it did not make.
    """
    program = os.getpid()
    child = os.fork()
    if child:
        os.close(pipe)
        os.waitpid(child, 0)
        return
    if os.fork():
        os._exit(0)
    os.setpgid(0, 0)
    try:
        while not select.select([pipe], [], [], 1.0)[0]:
            os.kill(program, 0)  # raises when the program is gone
        os.kill(program, death_signal)
    except ProcessLookupError:
        pass  # the program has ended
    os._exit(0)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # a mask survives exec
    main(json.loads(sys.argv[1]))
