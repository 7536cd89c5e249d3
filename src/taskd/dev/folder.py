"""The data folder of one cluster: one supervisor at a time, and nothing left running from the one before."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import time
from io import TextIOWrapper
from pathlib import Path

from taskd.dev.process import identity, signal_group
from taskd.domain.errors import ConfigurationError

#: What `--fresh` removes: our own parts by name, so that a mistaken --data loses nothing.
PARTS = ("postgres", "postgres.new", "redis", "etcd", "logs", "run")
DYING_GRACE, LEFTOVER_GRACE = 6.0, 10.0


class DataFolder:
    """`postgres/`, `redis/`, `etcd/` (data), `logs/`, `run/` (pid files) and `lock`."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: TextIOWrapper | None = None

    @property
    def logs(self) -> Path:
        """One log a process."""
        return self.path / "logs"

    @property
    def run(self) -> Path:
        """One pid file a process."""
        return self.path / "run"

    def take(self) -> None:
        """Make the folder if needed and lock it until `release` or the end of this process. Raises ConfigurationError."""
        try:
            if not self.path.exists():
                self.path.mkdir(parents=True)
                self.path.chmod(0o755)  # PostgreSQL's user has to pass, whatever the umask
            lock = (self.path / "lock").open("a+", encoding="ascii")
        except OSError as error:
            raise ConfigurationError(
                f"{self.path} cannot hold the cluster's data ({error.strerror}): choose another --data"
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            lock.close()
            raise ConfigurationError(
                f"{self.path} is in use by another `taskd dev` (process {holder}): stop that one, "
                "or start this one with another --data and another --port"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        self._lock = lock

    def release(self) -> None:
        """Let another supervisor in."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def empty(self) -> None:
        """Remove the cluster's data, logs and pid files. Call it with the lock held and nothing running."""
        for part in PARTS:
            if (self.path / part).is_symlink():
                (self.path / part).unlink()  # data that lodge elsewhere: they go when no link leads there
            elif (self.path / part).exists():
                shutil.rmtree(self.path / part)

    def postgres_version(self) -> int | None:
        """The major version that made the data; None if there is none yet."""
        try:
            return int((self.path / "postgres" / "PG_VERSION").read_text("ascii"))
        except (FileNotFoundError, ValueError):
            return None

    def end_leftovers(self) -> list[str]:
        """End what a killed supervisor left running, ours by pid *and* start time; the names of what had to be told to end."""
        # Its death was their signal to end: a second one would only make them end without order.
        for file in self._running():
            _tell(file, signal.SIGCONT)
        left = self._running_after(DYING_GRACE)
        for file in left:
            # PostgreSQL takes SIGTERM as "wait for all clients", SIGINT as "now, in order".
            _tell(file, signal.SIGINT if file.stem == "postgresql" else signal.SIGTERM)
        for file in self._running_after(LEFTOVER_GRACE) if left else []:
            _tell(file, signal.SIGKILL)
        for file in self.run.glob("*.pid"):
            file.unlink()
        return [file.stem for file in left]

    def _running(self) -> list[Path]:
        return [file for file in sorted(self.run.glob("*.pid")) if _alive(file) is not None]

    def _running_after(self, seconds: float) -> list[Path]:
        """The pid files of what still runs after at most so long."""
        deadline = time.monotonic() + seconds
        while (running := self._running()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return running


def _tell(pid_file: Path, number: int) -> None:
    if (pid := _alive(pid_file)) is not None:
        signal_group(pid, number)


def _alive(pid_file: Path) -> int | None:
    """The pid in `pid_file` if the very process that it was written for still runs."""
    pid, _, known = pid_file.read_text("ascii").strip().partition(" ")
    return int(pid) if pid.isdigit() and known and identity(int(pid)) == known else None
