"""What /proc says of a process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from taskd.dev.process import descendants
from tests.chaos.world import World


@dataclass(frozen=True)
class Usage:
    """Megabytes, and counts. `private` is what ending the process would give back (USS): mapped files come and go."""

    rss: float
    private: float
    fds: int
    threads: int


def usage(pid: int) -> Usage | None:
    """What the process has now; None if it is gone, or its memory cannot be read."""
    try:
        rollup = _fields(f"/proc/{pid}/smaps_rollup")
        status = _fields(f"/proc/{pid}/status")
        fds = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    if "Rss" not in rollup:  # a zombie has no memory
        return None
    private = rollup["Private_Clean"] + rollup["Private_Dirty"]
    return Usage(rollup["Rss"] / 1024, private / 1024, fds, status["Threads"])


def _fields(path: str) -> dict[str, int]:
    lines = (line.partition(":") for line in Path(path).read_text().splitlines())
    return {name: int(rest.split()[0]) for name, _, rest in lines if rest.split() and rest.split()[0].isdigit()}


def roll(world: World) -> list[tuple[str, int]]:
    """The name and the id of each process of taskd's that runs: schedulers, workers, their executors and guards."""
    found = []
    for member in [*world.members.values()]:
        if member.alive:
            found.append((member.name, member.pid))
            found += [(f"{member.name} {kind}", pid) for pid in descendants(member.pid) if (kind := _kind(pid))]
    return found


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _kind(pid: int) -> str | None:
    command = _command(pid)
    if b"taskd.executor.main" in command:
        return "executor"
    return "guard" if b"guard.py" in command else None


def servers(world: World) -> dict[str, list[int]]:
    """The processes of each server; those that vacuum a table for a moment are left out."""
    children = {"postgres": world.postgres.child, "redis": world.redis.child, "etcd": world.etcd.child}
    pids = {name: [child.pid, *descendants(child.pid)] for name, child in children.items() if child.pid is not None}
    return {name: [pid for pid in found if b"autovacuum worker" not in _command(pid)] for name, found in pids.items()}


def together(pids: list[int]) -> Usage:
    """The sum over a server's processes; shared memory counts in each one's RSS, but is nobody's own."""
    found = [use for pid in pids if (use := usage(pid)) is not None]
    return Usage(
        sum(use.rss for use in found),
        sum(use.private for use in found),
        sum(use.fds for use in found),
        sum(use.threads for use in found),
    )
