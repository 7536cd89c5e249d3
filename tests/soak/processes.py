"""The resources of processes, from /proc."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from taskd.dev.process import descendants
from tests.chaos.world import World


@dataclass(frozen=True)
class Usage:
    """Megabytes and counts. `private` is the memory that the end of the process would free (USS), without mapped files."""

    rss: float
    private: float
    fds: int
    threads: int


def usage(pid: int) -> Usage | None:
    """Return the current usage of a process; None if it has ended or its memory cannot be read."""
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


def taskd_processes(world: World) -> list[tuple[str, int]]:
    """Return name and pid of each running process of taskd: schedulers, workers, their executors and guards."""
    running = []
    for member in [*world.members.values()]:
        if member.alive:
            running.append((member.name, member.pid))
            running += [(f"{member.name} {kind}", pid) for pid in descendants(member.pid) if (kind := _kind(pid))]
    return running


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
    """Return the pids of each server, without PostgreSQL's short-lived autovacuum workers."""
    children = {"postgres": world.postgres.child, "redis": world.redis.child, "etcd": world.etcd.child}
    pids = {name: [child.pid, *descendants(child.pid)] for name, child in children.items() if child.pid is not None}
    return {name: [pid for pid in group if b"autovacuum worker" not in _command(pid)] for name, group in pids.items()}


def total(pids: list[int]) -> Usage:
    """Return the sum over a server's processes; shared memory counts in each one's RSS, but in no `private`."""
    usages = [item for pid in pids if (item := usage(pid)) is not None]
    return Usage(
        sum(item.rss for item in usages),
        sum(item.private for item in usages),
        sum(item.fds for item in usages),
        sum(item.threads for item in usages),
    )
