"""Processes by pid: their identity (a pid may be given to another process later), signals, and descendants."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ZOMBIE, STOPPED = "Z", "T"
PROC = Path("/proc/self/stat")


def identity(pid: int) -> str | None:
    """Return a text that is unique to this process, also over time; None if `pid` is not running."""
    if PROC.exists():
        fields = _stat(pid)
        return None if fields is None or fields[0] == ZOMBIE else f"{_boot()}:{fields[19]}"
    listed = subprocess.run(["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603  a pid is a number
    return listed.stdout.strip() or None


def is_stopped(pid: int) -> bool:
    """Return True if `pid` has stopped after a SIGSTOP. Always True where there is no /proc."""
    fields = _stat(pid)
    return not PROC.exists() or fields is None or fields[0] == STOPPED


def signal_group(pid: int, number: int) -> None:
    """Signal the process group that `pid` leads; do nothing if it is gone."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        # macOS answers EPERM for a group of zombies.
        return


def descendants(pid: int) -> list[int]:
    """Return the processes below `pid`, parents before their children."""
    return [child for child, _ in _below(pid)]


def executors(pid: int) -> list[int]:
    """Return the executors of the worker `pid`, without its guard and the processes that tasks have started."""
    return [child for child, command in _below(pid) if "taskd.executor.main" in command]


def _below(pid: int) -> list[tuple[int, str]]:
    """Return each process below `pid` with its command line."""
    listed = subprocess.run(
        ["/bin/ps", "-e", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=False
    ).stdout
    rows = [(int(child), int(parent), command) for child, parent, command in map(_row, listed.splitlines())]
    tree = [(pid, "")]
    for known, _ in tree:  # the list grows during the loop
        tree += [(child, command) for child, parent, command in rows if parent == known]
    return tree[1:]


def _row(line: str) -> tuple[str, str, str]:
    child, parent, *command = line.split(None, 2)
    return child, parent, "".join(command)


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the state on: the name before them may hold spaces and parentheses."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return "unknown"
