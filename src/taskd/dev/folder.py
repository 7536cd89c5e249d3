"""The data folder of one cluster: one supervisor at a time, and no processes left over from an earlier one."""

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

#: The parts that `--fresh` removes: only these names, so that a mistaken --data loses nothing.
PARTS = ("postgres", "postgres.new", "redis", "etcd", "logs", "run")
DYING_GRACE, LEFTOVER_GRACE = 6.0, 10.0


class DataFolder:
    """`postgres/`, `redis/`, `etcd/` (data), `logs/`, `run/` (pid files) and `lock`."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: TextIOWrapper | None = None

    @property
    def logs(self) -> Path:
        """The folder of logs, one per process."""
        return self.path / "logs"

    @property
    def run(self) -> Path:
        """The folder of pid files, one per process."""
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
        """Unlock the folder for another supervisor."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def empty(self) -> None:
        """Remove the cluster's data, logs and pid files. Call it with the lock held and nothing running."""
        for part in PARTS:
            if (self.path / part).is_symlink():
                (
                    self.path / part
                ).unlink()  # the data are elsewhere (postgres_home), and removed there once no link leads to them
            elif (self.path / part).exists():
                shutil.rmtree(self.path / part)

    def postgres_version(self) -> int | None:
        """Return the major version that made the data; None if there are none yet."""
        try:
            return int((self.path / "postgres" / "PG_VERSION").read_text("ascii"))
        except (FileNotFoundError, ValueError):
            return None

    def end_leftovers(self) -> list[str]:
        """End the processes that a killed supervisor left running. Return the names of those that had to be signalled.

        A process counts as left over if its pid *and* its start time match the pid file.
        """
        # The supervisor's death has signalled them already: a second signal would only disturb an orderly end.
        for file in self._running():
            _signal(file, signal.SIGCONT)
        left = self._running_after(DYING_GRACE)
        for file in left:
            # PostgreSQL takes SIGTERM as "wait for all clients", SIGINT as "now, in order".
            _signal(file, signal.SIGINT if file.stem == "postgresql" else signal.SIGTERM)
        for file in self._running_after(LEFTOVER_GRACE) if left else []:
            _signal(file, signal.SIGKILL)
        for file in self.run.glob("*.pid"):
            file.unlink()
        return [file.stem for file in left]

    def _running(self) -> list[Path]:
        return [file for file in sorted(self.run.glob("*.pid")) if _alive(file) is not None]

    def _running_after(self, seconds: float) -> list[Path]:
        """Return the pid files of the processes that still run after at most `seconds`."""
        deadline = time.monotonic() + seconds
        while (running := self._running()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return running


def _signal(pid_file: Path, number: int) -> None:
    if (pid := _alive(pid_file)) is not None:
        signal_group(pid, number)


def _alive(pid_file: Path) -> int | None:
    """Return the pid in `pid_file` if the process that it was written for still runs."""
    pid, _, known = pid_file.read_text("ascii").strip().partition(" ")
    return int(pid) if pid.isdigit() and known and identity(int(pid)) == known else None
