"""The schedules that the app of a `taskd dev` declares, applied when the cluster is up and after each reload of the app."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import msgspec

from taskd.dev.child_process import ChildProcess, Program
from taskd.dev.folder import DataFolder
from taskd.dev.restarter import Say

NAME = "schedules"


class Applied(msgspec.Struct):
    """The output of `taskd schedule apply --json`."""

    app: str
    made: list[str]
    changed: list[str]
    same: list[str]
    removed: list[str]

    @property
    def line(self) -> str:
        """The changes as one line; empty if there were none."""
        done = {"made": self.made, "changed": self.changed, "unchanged": self.same, "removed": self.removed}
        return "; ".join(f"{word} {', '.join(names)}" for word, names in done.items() if names)


class DeclaredSchedules:
    """Runs `taskd schedule apply` beside the cluster. No method waits: an app may take long to import."""

    def __init__(self, app: str, folder: DataFolder, say: Say) -> None:
        self._app = app
        self._say = say
        self._child = ChildProcess(NAME, folder.logs / "schedules.log", folder.run / "schedules.pid")
        self._server = ""
        self._environment: Mapping[str, str] = {}
        self._wanted = False
        self._running = False

    def begin(self, server: str, environment: Mapping[str, str]) -> None:
        """Apply the schedules on the schedulers at `server`, now and after each `request`."""
        self._server, self._environment = server, environment
        self.request()

    def request(self) -> None:
        """Have the schedules applied at the next `check`: the code may have changed."""
        self._wanted = True

    def check(self) -> None:
        """Report a run that has ended, and start the next one if it was requested."""
        if self._running and self._child.exit_status is not None:
            self._running = False
            self._report()
        if self._wanted and not self._running and self._server:
            self._wanted, self._running = False, True
            argv = [sys.executable, "-m", "taskd", "schedule", "apply", "--app", self._app, "--json"]
            self._child.spawn(Program(argv=[*argv, "--server", self._server], environment=dict(self._environment)))

    def kill(self) -> None:
        """Kill the command if it runs."""
        self._child.kill()

    def _report(self) -> None:
        last = (self._child.output().strip().splitlines() or ["it printed nothing"])[-1]
        self._child.kill()
        try:
            if line := msgspec.json.decode(last, type=Applied).line:
                self._say(NAME, line)
        except msgspec.DecodeError:
            reason = last.removeprefix("error: ")
            self._say(NAME, f"not applied ({reason}); after the correction: taskd schedule apply --app {self._app}")
