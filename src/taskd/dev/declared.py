"""The schedules that the app of a `taskd dev` declares, applied when the cluster is up and when the app's code was reloaded."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import msgspec

from taskd.dev.child_process import ChildProcess, Program
from taskd.dev.folder import DataFolder
from taskd.dev.restarter import Say

NAME = "schedules"


class Applied(msgspec.Struct):
    """The answer of `taskd schedule apply --json`."""

    app: str
    made: list[str]
    changed: list[str]
    same: list[str]
    removed: list[str]

    @property
    def line(self) -> str:
        """What was done, for the terminal; empty if there was nothing to do."""
        done = {"made": self.made, "changed": self.changed, "unchanged": self.same, "removed": self.removed}
        return "; ".join(f"{word} {', '.join(names)}" for word, names in done.items() if names)


class DeclaredSchedules:
    """Runs `taskd schedule apply` beside the cluster. Neither method waits: an app may take long to import."""

    def __init__(self, app: str, folder: DataFolder, say: Say) -> None:
        self._app = app
        self._say = say
        self._child = ChildProcess(NAME, folder.logs / "schedules.log", folder.run / "schedules.pid")
        self._server = ""
        self._environment: Mapping[str, str] = {}
        self._wanted = False
        self._running = False

    def begin(self, server: str, environment: Mapping[str, str]) -> None:
        """Apply them on the schedulers at `server`, now and after each `again`."""
        self._server, self._environment = server, environment
        self.again()

    def again(self) -> None:
        """The code has changed: apply them at the next look."""
        self._wanted = True

    def look(self) -> None:
        """Start what is due, and report what has ended."""
        if self._running and self._child.exit_status is not None:
            self._running = False
            self._report()
        if self._wanted and not self._running and self._server:
            self._wanted, self._running = False, True
            argv = [sys.executable, "-m", "taskd", "schedule", "apply", "--app", self._app, "--json"]
            self._child.spawn(Program(argv=[*argv, "--server", self._server], environment=dict(self._environment)))

    def kill(self) -> None:
        """End it."""
        self._child.kill()

    def _report(self) -> None:
        last = (self._child.said().strip().splitlines() or ["it said nothing"])[-1]
        self._child.kill()
        try:
            if line := msgspec.json.decode(last, type=Applied).line:
                self._say(NAME, line)
        except msgspec.DecodeError:
            why = last.removeprefix("error: ")
            self._say(NAME, f"not applied ({why}); once it is mended: taskd schedule apply --app {self._app}")
