"""Fixed ports of a cluster's servers: the same in every run of one data folder, while they are free."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from pathlib import Path
from types import TracebackType

import msgspec

from taskd.dev.running_cluster import Port
from taskd.dev.servers.ports import is_free

FILE = "ports.json"
#: The servers' usual ports with a 1 before them. They do not collide with the machine's own servers, and lie below the ports
#: that the kernel gives to outgoing connections.
DEFAULTS = {"PostgreSQL": 15432, "Redis": 16379, "etcd": 12379}


class FixedPorts:
    """The ports of one cluster, reserved until `release` against this user's other clusters that start meanwhile."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE
        self._locks: list[int] = []
        #: By the server's title.
        self.chosen: dict[str, int] = {}
        #: (Title, message) of each server whose port was taken.
        self.lines: list[tuple[str, str]] = []

    def choose(self) -> None:
        """Choose and store a port for each server. Raises OSError if there is none."""
        for title, port in (DEFAULTS | self._remembered()).items():
            self.chosen[title] = free = self._next_free(port)
            if free != port:
                self.lines.append((title, f"port {port} is taken: it listens on {free}, also in later runs"))
        self._file.write_bytes(msgspec.json.encode(self.chosen))

    def release(self) -> None:
        """Free the ports for other clusters."""
        while self._locks:
            os.close(self._locks.pop())

    def __enter__(self) -> FixedPorts:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()

    def _remembered(self) -> dict[str, int]:
        try:
            known = msgspec.json.decode(self._file.read_bytes(), type=dict[str, Port])
        except (OSError, msgspec.DecodeError):
            return {}
        return {title: port for title, port in known.items() if title in DEFAULTS}

    def _next_free(self, port: int) -> int:
        for candidate in range(port, 65536):
            if candidate not in self.chosen.values() and is_free(candidate) and self._lock(candidate):
                return candidate
        raise OSError(f"no port from {port} on is free")

    def _lock(self, port: int) -> bool:
        """Reserve a port. Return False if another cluster of this user has it."""
        folder = Path(tempfile.gettempdir()) / f"taskd-dev-{os.geteuid()}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            return True  # another user's folder: go on without locks
        lock = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        self._locks.append(lock)
        return True
