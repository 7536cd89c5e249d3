"""A description of this machine, and the resources that its processes use."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import httpx
import psycopg
import redis

TICKS = os.sysconf("SC_CLK_TCK")


def described(dsn: str, redis_url: str, etcd: str) -> dict[str, str]:
    """Return the machine, and the versions of its programs."""
    with psycopg.connect(dsn) as connection:
        postgres = connection.info.server_version
    with redis.Redis.from_url(redis_url) as client:
        info = client.info("server")
    node = shutil.which("node")
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    return {
        "at": datetime.now().astimezone().isoformat(timespec="seconds"),
        "system": platform.platform(),
        "cores": f"{os.cpu_count()} ({cpu.partition(':')[2].strip() or platform.machine()})",
        "python": platform.python_version(),
        "taskd": importlib.metadata.version("taskd"),
        "PostgreSQL": f"{postgres // 10000}.{postgres % 10000}",
        str(info.get("server_name", "redis")): str(info.get("valkey_version", info.get("redis_version"))),
        "etcd": str(httpx.get(f"http://{etcd}/version").json()["etcdserver"]),
        **({"Node.js": subprocess.check_output([node, "--version"], text=True).strip().lstrip("v")} if node else {}),
    }


def busy() -> float:
    """Return the CPU seconds that this machine has used since it started, on all cores and by all processes."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _wait, irq, soft = fields[:7]
    return (user + nice + system + irq + soft) / TICKS


def cpu(pid: int) -> float:
    """Return the CPU seconds that one process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def nanoseconds(pid: int) -> int:
    """Return the nanoseconds of processor time used by all threads of a process so far; 0 if it has ended."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)
    except OSError:
        return 0


def children(pid: int) -> list[int]:
    """Return the direct children of a process."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def process_tree(pid: int) -> list[int]:
    """Return a process and all of its descendants."""
    return [pid, *(member for child in children(pid) for member in process_tree(child))]


def resident(pid: int) -> float:
    """Return the megabytes that a process has in memory."""
    return _memory(pid, "VmRSS")


def peak(pid: int) -> float:
    """Return the peak of megabytes of a process in memory since its start."""
    return _memory(pid, "VmHWM")


def _memory(pid: int, what: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(what))) / 1024


def proportional(pids: Iterable[int]) -> float:
    """Return the megabytes of these processes. Shared memory is divided among the processes that share it."""
    return sum(_proportional(pid) for pid in pids)


def _proportional(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0  # it has ended
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("Pss:"))) / 1024
