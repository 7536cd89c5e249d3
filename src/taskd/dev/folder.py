"""The data folder of an embedded cluster: one supervisor at a time, kept between runs, emptied only of what is ours."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taskd.dev.child import Pause
from taskd.dev.process import identity, signal_group
from taskd.domain.errors import ConfigurationError

#: Everything that a cluster keeps in its folder, and so all that `--fresh` removes.
OURS = ("postgres", "postgres.new", "redis", "etcd", "logs", "run")
LOCK = "lock"
#: Seconds that a server which outlived its supervisor may take to shut down.
LEFTOVER_GRACE = 10.0


class DataFolder:
    """`path` with its servers' data, `logs/`, and `run/` (pid files)."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @property
    def postgres_version(self) -> int | None:
        """The major version of the PostgreSQL whose data is here; None if there is none."""
        file = self.path / "postgres" / "PG_VERSION"
        return int(file.read_text("ascii")) if file.exists() else None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep every other supervisor out. Raises ConfigurationError if one is in, or the folder cannot be used."""
        try:
            self._make()
            lock = (self.path / LOCK).open("a+")
        except OSError as error:
            raise ConfigurationError(
                f"the data folder {self.path} cannot be used ({error.strerror}): choose another with --data"
            ) from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                holder = lock.read().strip() or "unknown"
                raise ConfigurationError(
                    f"the data folder {self.path} is in use by a running cluster (process {holder}): "
                    "stop that one, or give this one another folder with --data"
                ) from None
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            yield

    def empty(self) -> None:
        """Remove what a cluster left here, and nothing else. Raises ConfigurationError if that is not allowed."""
        for name in OURS:
            try:
                shutil.rmtree(self.path / name)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise ConfigurationError(
                    f"{self.path / name} cannot be removed ({error.strerror}): remove it by hand"
                ) from None

    def end_leftovers(self, pause: Pause = time.sleep) -> list[str]:
        """End what a killed supervisor left running; the names. A pid that is somebody else's by now is left alone."""
        ended = []
        for file in sorted((self.path / "run").glob("*.pid")):
            pid, _, was = file.read_text("ascii").strip().partition(" ")
            if pid.isdigit() and was and identity(int(pid)) == was:
                _end(int(pid), was, pause)
                ended.append(file.stem)
            file.unlink()
        return ended

    def _make(self) -> None:
        if not self.path.exists():
            self.path.mkdir(parents=True)
            self.path.chmod(0o711)  # PostgreSQL's own user has to get through


def _end(pid: int, was: str, pause: Pause) -> None:
    # Each of our children takes SIGINT for "shut down in order".
    for number, patience in ((signal.SIGINT, LEFTOVER_GRACE), (signal.SIGKILL, LEFTOVER_GRACE)):
        signal_group(pid, number)
        signal_group(pid, signal.SIGCONT)
        deadline = time.monotonic() + patience
        while identity(pid) == was and time.monotonic() < deadline:
            pause(0.02)
