"""One supervised child process: spawned through the launcher, in a process group of its own, its output in a file."""

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
#: Seconds that a SIGSTOP may take to show.
STOP_DEADLINE = 5.0

#: What a full disk, or a used-up share of one, answers.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})

Pause = Callable[[float], None]


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """What to run. `death_signal` is sent when the supervisor dies; `folder` is the working directory."""

    argv: Sequence[str | Path]
    environment: Mapping[str, str]
    folder: Path | None = None
    owner: Owner | None = None
    death_signal: int = signal.SIGTERM


class ChildProcess:
    """A process of ours, startable again and again. Spawn it from a thread that lives as long as it should.

    On Linux the kernel ties a child to the *thread* that made it: a child spawned from a short-lived thread dies with it.
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
        """The process id while it runs (stopped counts), else None."""
        return self._process.pid if self._process is not None and self.exit_status is None else None

    @property
    def exit_status(self) -> int | None:
        """How the last run ended (negative: by that signal); None while it runs or before it ever ran.

        What the dead child left behind in its process group is killed as soon as its end is seen.
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
        order = {
            "program": [str(part) for part in program.argv],
            "folder": None if program.folder is None else str(program.folder),
            "user": None if program.owner is None else [program.owner.uid, program.owner.gid],
            "parent": os.getpid(),
            "death_signal": int(program.death_signal),
            "pipe": read_end,
        }
        try:
            with self._open_log() as output:
                self._process = subprocess.Popen(  # noqa: S603  argv is ours, and no shell sees it
                    [sys.executable, "-I", "-S", launcher.__file__, json.dumps(order)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=dict(program.environment),
                    pass_fds=[read_end],
                    process_group=0,
                )
        finally:
            os.close(read_end)
        self._remember()

    def signal(self, number: int) -> None:
        """Signal the child itself, if it runs."""
        if self._process is not None and self.pid is not None:
            self._process.send_signal(number)

    def suspend(self) -> None:
        """SIGSTOP the child and its descendants in its group: it hangs as a frozen machine would.

        Returns when it stands still. Linux continues what is stopped when its parent dies, so that it can end; a child that
        stops only afterwards would stay for ever.
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
        """Ask it to end, and kill it after `grace` seconds; whether it ended by itself."""
        self.signal(number)
        self.resume()
        ended = self.ended_within(grace)
        self.kill()
        return ended

    def ended_within(self, seconds: float, pause: Pause = time.sleep) -> bool:
        """Wait for the end, at most `seconds`."""
        deadline = time.monotonic() + seconds
        while self.pid is not None:
            if time.monotonic() > deadline:
                return False
            pause(0.01)
        return True

    def kill(self) -> None:
        """SIGKILL it and its whole process group; returns when it is gone. Nothing happens if it does not run."""
        if self._process is not None and self.pid is not None:
            signal_group(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._forget()

    def said(self) -> str:
        """What the present (or last) run has written so far."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode("utf-8", errors="replace")

    def _open_log(self) -> BufferedWriter:
        """The file for its output; where there is no room for one, nothing that is kept."""
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

    def _remember(self) -> None:
        if self._pid_file is not None and self._process is not None:
            try:
                self._pid_file.parent.mkdir(parents=True, exist_ok=True)
                self._pid_file.write_text(f"{self._process.pid} {identity(self._process.pid)}\n", "ascii")
            except OSError as error:
                if error.errno not in NO_ROOM:  # it runs all the same, and ends with its supervisor
                    raise

    def _forget(self) -> None:
        self._cut_lifeline()
        if self._pid_file is not None:
            self._pid_file.unlink(missing_ok=True)
