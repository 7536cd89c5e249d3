"""A small init for containers in which taskd is process 1: it passes signals on and reaps orphans.

The kernel makes process 1 the parent of every orphan, and a parent that does not wait for its children keeps them as zombies.
taskd itself waits for its own children only. So process 1 forks at its start: the parent becomes this init, the child is taskd.
"""

from __future__ import annotations

import contextlib
import os
import signal

#: Signals that are not passed on: the first is for the init, the others come from the kernel to a background process.
KEPT = frozenset({signal.SIGCHLD, signal.SIGTTIN, signal.SIGTTOU})


def split() -> None:
    """In process 1: become the init and never return, while a child returns. In any other process: do nothing."""
    if os.getpid() != 1 or not hasattr(signal, "sigwaitinfo"):
        return
    signals = signal.valid_signals()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    child = os.fork()
    if child == 0:
        _lead_a_group()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    os._exit(_serve(child, signals - {signal.SIGKILL, signal.SIGSTOP}))


def _lead_a_group() -> None:
    """Give the terminal to taskd, so that Ctrl-C reaches it once: passed on by the init, it would come twice."""
    os.setpgid(0, 0)
    with contextlib.suppress(OSError):  # no terminal
        os.tcsetpgrp(0, os.getpid())  # SIGTTOU, which this may bring, is blocked


def _serve(child: int, signals: set[signal.Signals]) -> int:
    """Pass signals on to the child until it ends. Return its exit status as a shell would."""
    while True:
        number = signal.sigwaitinfo(signals).si_signo
        if number == signal.SIGCHLD:
            status = _reap(child)
            if status is not None:
                return status if status >= 0 else 128 - status
        elif number not in KEPT:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)


def _reap(child: int) -> int | None:
    """Reap all ended processes. Return the child's exit code (-n for signal n) if it is among them."""
    found = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == child:
                found = os.waitstatus_to_exitcode(status)
    return found
