"""Identities of processes: of this one, and of others on the same machine, which may be gone."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from taskd.domain.fencing import Host


def this_process() -> Host:
    """Return the identity of this process, precise enough that a recycled pid is not mistaken for it."""
    return Host(socket.gethostname(), _boot(), os.getpid(), started(os.getpid()))


def certainly_gone(host: Host) -> bool:
    """Return True only if that process ran on this machine and has ended. Nothing is known of other machines."""
    here = this_process()
    if host.name != here.name:
        return False
    if host.boot != here.boot:
        # The same machine after a reboot; or another container with the same name, whose processes are invisible here.
        return host.boot.partition("/")[0] != here.boot.partition("/")[0]
    return started(host.pid) != host.started


def _boot() -> str:
    """Return the boot id and the pid namespace on Linux; elsewhere an empty text."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def started(pid: int) -> int:
    """Return the start of a process in clock ticks since boot; 0 where that is not known, -1 for no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return _probe(pid)
    return -1 if fields[0] in "ZX" else int(fields[19])


def _probe(pid: int) -> int:
    if Path("/proc/self/stat").exists():
        return -1
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return -1
    except PermissionError:
        return 0
    return 0
