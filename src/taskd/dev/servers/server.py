"""What the three servers have in common: started with a deadline, told apart by their probes, never left behind."""

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
#: How long a start is tried again while a dead predecessor is still in the way.
PREDECESSOR_PATIENCE = 10.0
PORT_TRIES = 5


class ServerFailed(TaskdError):
    """A server did not start: names it, its last words and its log."""


class Server(ABC):
    """One server on loopback with its data in `folder`. Restartable: it keeps its port and, unless emptied, its data."""

    title: ClassVar[str]
    stop_signal: ClassVar[int]
    #: What its log says when another process has the port.
    port_taken_words: ClassVar[str] = "ddress already in use"
    #: What its log says when a dead predecessor is not quite gone.
    predecessor_words: ClassVar[tuple[str, ...]] = ()

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
        """What to run."""

    @abstractmethod
    def probe(self) -> str | None:
        """None if the server answers as it should, else what is wrong. Returns within 3 seconds."""

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
        wrong: str | None = "it was not asked yet"
        while wrong is not None:
            if self.child.pid is None:
                port_tries -= self._begin_again(time.monotonic() - begun, port_tries)
                pause(0.2)
            elif time.monotonic() - begun > timeout:
                self.child.kill()
                raise ServerFailed(
                    f"{self.title} did not answer within {timeout:.0f} s ({wrong}); {self._last_words()}"
                )
            else:
                wrong = self.probe()
                pause(0 if wrong is None else 0.02)
        self._ready = True

    def stop(self, grace: float = 10.0) -> None:
        """Shut it down in an orderly way; kill it after `grace` seconds."""
        self.child.stop(self.stop_signal, grace)

    def kill(self) -> None:
        """SIGKILL it and all of its processes, as a power cut would."""
        self.child.kill()

    def suspend(self) -> None:
        """Freeze it: connections stay open, nothing is answered."""
        self.child.suspend()

    def resume(self) -> None:
        """Undo `suspend`."""
        self.child.resume()

    def _begin_again(self, elapsed: float, port_tries: int) -> int:
        """Relaunch after an early death that a new try can mend; 1 if that took another port. Raises ServerFailed."""
        said = self.child.said()
        if self.port_taken_words in said and not self._port_is_given and port_tries > 0:
            self.port = free_port()
            self.launch()
            return 1
        if elapsed < PREDECESSOR_PATIENCE and any(words in said for words in self.predecessor_words):
            self.launch()
            return 0
        raise ServerFailed(f"{self.title} did not start (exit status {self.child.exit_status}); {self._last_words()}")

    def _last_words(self) -> str:
        lines = [line.strip() for line in self.child.said().splitlines() if line.strip()]
        tail = " / ".join(line[:300] for line in lines[-3:]) or "it said nothing"
        return f"its log {self.child.log} ends with: {tail}"


def environment(without: tuple[str, ...], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Our environment less the variables that start with one of `without`: a user's own settings of a server are not meant."""
    return {name: value for name, value in environ.items() if not name.startswith(without)}
