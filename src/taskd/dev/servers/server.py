"""The common base of the three servers: a start with a deadline, a probe, and an end that leaves no process behind."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from taskd.dev.child_process import ChildProcess, Pause, Program
from taskd.dev.servers.ports import LOOPBACK, free_port
from taskd.domain.errors import TaskdError

START_DEADLINE = 30.0
#: Seconds for which a start is tried again while a dead predecessor is still in the way.
PREDECESSOR_PATIENCE = 10.0
PORT_TRIES = 5


class ServerFailed(TaskdError):
    """Raised when a server did not start; names it, its log and the log's last lines."""


class Server(ABC):
    """One server on loopback with its data in `folder`. It can be restarted: it keeps its port and its data."""

    title: ClassVar[str]
    stop_signal: ClassVar[int]
    #: The log message when another process has the port.
    port_taken_message: ClassVar[str] = "ddress already in use"
    #: The log messages when a dead predecessor is not quite gone.
    predecessor_messages: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, binary: Path, folder: Path, *, log: Path, port: int | None = None, run: Path | None = None
    ) -> None:
        self.binary = binary
        self.folder = folder
        self.port = port or free_port()
        self._port_is_given = port is not None
        name = self.title.lower()
        self.child = ChildProcess(name, log, None if run is None else run / f"{name}.pid")
        self._ready = False

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"{LOOPBACK}:{self.port}"

    @abstractmethod
    def prepare(self) -> None:
        """Make the data folder if there is none. Raises ServerFailed."""

    @abstractmethod
    def program(self) -> Program:
        """Return the program to run."""

    @abstractmethod
    def probe(self) -> str | None:
        """Return None if the server answers correctly, else the problem. Takes 3 seconds at most."""

    def start(self, timeout: float = START_DEADLINE, pause: Pause = time.sleep) -> None:
        """Start the server and return when it answers. Raises ServerFailed."""
        self.launch()
        self.await_ready(timeout, pause)

    def launch(self) -> None:
        """Start the server's process without waiting for it."""
        self.prepare()
        self._ready = False
        self.child.spawn(self.program())

    def await_ready(self, timeout: float = START_DEADLINE, pause: Pause = time.sleep) -> None:
        """Return when the server that `launch` started answers. Raises ServerFailed, and leaves no process then."""
        begun = time.monotonic()
        port_tries = PORT_TRIES
        problem: str | None = "it was not asked yet"
        while problem is not None:
            if self.child.pid is None:
                port_tries -= self._relaunch(time.monotonic() - begun, port_tries)
                pause(0.2)
            elif time.monotonic() - begun > timeout:
                self.child.kill()
                raise ServerFailed(
                    f"{self.title} did not answer within {timeout:.0f} s ({problem}); {self._log_tail()}"
                )
            else:
                problem = self.probe()
                pause(0 if problem is None else 0.02)
        self._ready = True

    def stop(self, grace: float = 10.0) -> None:
        """Shut it down in an orderly way; kill it after `grace` seconds."""
        self.child.stop(self.stop_signal, grace)

    def kill(self) -> None:
        """SIGKILL it and all of its processes, as a power cut would."""
        self.child.kill()

    def suspend(self) -> None:
        """Freeze it: connections stay open, and it answers nothing."""
        self.child.suspend()

    def resume(self) -> None:
        """Undo `suspend`."""
        self.child.resume()

    def _relaunch(self, elapsed: float, port_tries: int) -> int:
        """Relaunch after an early death, if that can help. Return 1 if it took another port. Raises ServerFailed."""
        output = self.child.output()
        if self.port_taken_message in output and not self._port_is_given and port_tries > 0:
            self.port = free_port()
            self.launch()
            return 1
        if elapsed < PREDECESSOR_PATIENCE and any(message in output for message in self.predecessor_messages):
            self.launch()
            return 0
        raise ServerFailed(f"{self.title} did not start (exit status {self.child.exit_status}); {self._log_tail()}")

    def _log_tail(self) -> str:
        lines = [line.strip() for line in self.child.output().splitlines() if line.strip()]
        tail = " / ".join(line[:300] for line in lines[-3:]) or "(nothing)"
        return f"its log {self.child.log} ends with: {tail}"


def environment(without: tuple[str, ...], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return `environ` without the variables that start with one of `without`: the user's own settings of such a server."""
    return {name: value for name, value in environ.items() if not name.startswith(without)}
