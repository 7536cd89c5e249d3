"""One supervised child process: started through the launcher, in its own process group, with its output in a file."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from io import BufferedWriter
from pathlib import Path

import msgspec

from taskd.dev import launcher
from taskd.dev.process import identity, is_stopped, signal_group
from taskd.dev.servers.owner import Owner

#: A log that is larger than this when its child starts is set aside.
LOG_LIMIT = 16 * 1024 * 1024
#: Seconds until a SIGSTOP must have taken effect.
STOP_DEADLINE = 5.0

#: The errors of a full disk, or of a used-up quota.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})

Pause = Callable[[float], None]


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """A program to run. `death_signal` is sent when the supervisor dies; `folder` is the working directory."""

    argv: Sequence[str | Path]
    environment: Mapping[str, str]
    folder: Path | None = None
    owner: Owner | None = None
    death_signal: int = signal.SIGTERM


class ChildProcess:
    """A child process that can be started again and again.

    Spawn it from a thread that lives long enough: on Linux the kernel ties a child to the *thread* that made it, and the child
    dies with that thread.
    """

    def __init__(self, name: str, log: Path, pid_file: Path | None = None) -> None:
        self.name = name
        self.log = log
        self._pid_file = pid_file
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: int | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """The process id while it runs or is stopped, else None."""
        return self._process.pid if self._process is not None and self.exit_status is None else None

    @property
    def exit_status(self) -> int | None:
        """The exit status of the last run (negative: the signal); None while it runs, or before the first run.

        When the end is noticed, the rest of the child's process group is killed.
        """
        if self._process is None:
            return None
        if self._process.returncode is None and self._process.poll() is not None:
            signal_group(self._process.pid, signal.SIGKILL)
        return self._process.returncode

    def spawn(self, program: Program) -> None:
        """Start `program`. Raises OSError if no process can be made."""
        assert self.pid is None, f"{self.name} is running"
        read_end, self._lifeline = self._renew_lifeline()
        request = {
            "program": [str(part) for part in program.argv],
            "folder": None if program.folder is None else str(program.folder),
            "user": None if program.owner is None else [program.owner.uid, program.owner.gid],
            "parent": os.getpid(),
            "death_signal": int(program.death_signal),
            "pipe": read_end,
        }
        try:
            with self._open_log() as log:
                self._process = subprocess.Popen(  # noqa: S603  a fixed argv, and no shell
                    [sys.executable, "-I", "-S", launcher.__file__, json.dumps(request)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=dict(program.environment),
                    pass_fds=[read_end],
                    process_group=0,
                )
        finally:
            os.close(read_end)
        self._write_pid_file()

    def signal(self, number: int) -> None:
        """Signal the child alone, if it runs."""
        if self._process is not None and self.pid is not None:
            self._process.send_signal(number)

    def suspend(self) -> None:
        """SIGSTOP the child and its process group, as if the machine froze. Return when it has stopped.

        Linux continues stopped children when their parent dies, so that they can end. A child that stops only afterwards
        would stay stopped.
        """
        if self.pid is not None:
            signal_group(self.pid, signal.SIGSTOP)
            deadline = time.monotonic() + STOP_DEADLINE
            while not is_stopped(self.pid) and time.monotonic() < deadline:
                time.sleep(0.001)

    def resume(self) -> None:
        """Undo `suspend`."""
        if self.pid is not None:
            signal_group(self.pid, signal.SIGCONT)

    def stop(self, number: int, grace: float) -> bool:
        """Signal it, and kill it after `grace` seconds. Return True if it ended by itself."""
        self.signal(number)
        self.resume()
        ended = self.ended_within(grace)
        self.kill()
        return ended

    def ended_within(self, seconds: float, pause: Pause = time.sleep) -> bool:
        """Wait for the end, at most `seconds`. Return False if it still runs."""
        deadline = time.monotonic() + seconds
        while self.pid is not None:
            if time.monotonic() > deadline:
                return False
            pause(0.01)
        return True

    def kill(self) -> None:
        """SIGKILL it and its whole process group, and return when it is gone. Do nothing if it does not run."""
        if self._process is not None and self.pid is not None:
            signal_group(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._remove_pid_file()

    def output(self) -> str:
        """Return the output of the present (or last) run so far."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode("utf-8", errors="replace")

    def _open_log(self) -> BufferedWriter:
        """Open the file for its output; on a full disk, the null device."""
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            if self.log.exists() and self.log.stat().st_size > LOG_LIMIT:
                self.log.replace(self.log.with_suffix(".old.log"))
            file = self.log.open("ab")
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            return open(os.devnull, "wb")
        self._log_start = file.tell()
        return file

    def _renew_lifeline(self) -> tuple[int, int]:
        self._cut_lifeline()
        return os.pipe()

    def _cut_lifeline(self) -> None:
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None

    def _write_pid_file(self) -> None:
        if self._pid_file is not None and self._process is not None:
            try:
                self._pid_file.parent.mkdir(parents=True, exist_ok=True)
                self._pid_file.write_text(f"{self._process.pid} {identity(self._process.pid)}\n", "ascii")
            except OSError as error:
                if error.errno not in NO_ROOM:  # the child runs without the file, and ends with its supervisor
                    raise

    def _remove_pid_file(self) -> None:
        self._cut_lifeline()
        if self._pid_file is not None:
            self._pid_file.unlink(missing_ok=True)
