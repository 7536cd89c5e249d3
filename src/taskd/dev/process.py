"""Which process a pid means: a pid alone may have been given to a stranger since."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ZOMBIE, STOPPED = "Z", "T"
PROC = Path("/proc/self/stat")


def identity(pid: int) -> str | None:
    """A text that no other process has had or will have; None if `pid` is not running."""
    if PROC.exists():
        fields = _stat(pid)
        return None if fields is None or fields[0] == ZOMBIE else f"{_boot()}:{fields[19]}"
    found = subprocess.run(["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603  a pid is no text
    return found.stdout.strip() or None


def is_stopped(pid: int) -> bool:
    """Whether `pid` stands still after a SIGSTOP. Always True where there is no /proc."""
    fields = _stat(pid)
    return not PROC.exists() or fields is None or fields[0] == STOPPED


def signal_group(pid: int, number: int) -> None:
    """Signal the process group that `pid` leads; nothing happens if it is gone."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        # macOS answers EPERM for a group of zombies.
        return


def descendants(pid: int) -> list[int]:
    """The processes below `pid`, children before theirs."""
    return [child for child, _ in _below(pid)]


def executors(pid: int) -> list[int]:
    """The executors of the worker `pid`: not its guard, nor what its tasks have started."""
    return [child for child, command in _below(pid) if "taskd.executor.main" in command]


def _below(pid: int) -> list[tuple[int, str]]:
    """Each process below `pid` with its command line."""
    listed = subprocess.run(
        ["/bin/ps", "-e", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=False
    ).stdout
    rows = [(int(child), int(parent), command) for child, parent, command in map(_row, listed.splitlines())]
    found = [(pid, "")]
    for known, _ in found:  # it grows while it is walked
        found += [(child, command) for child, parent, command in rows if parent == known]
    return found[1:]


def _row(line: str) -> tuple[str, str, str]:
    child, parent, *command = line.split(None, 2)
    return child, parent, "".join(command)


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on: the name before them may hold spaces and parentheses."""
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
