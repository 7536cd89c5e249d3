"""The known causes of log lines of WARNING or ERROR. A line without a cause fails the soak."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

#: The levels of all programs that need a cause.
LOUD = ("warning", "error", "critical", "warn", "fatal", "panic", "dpanic")


@dataclass(frozen=True)
class Line:
    """Line of a log; level `raw` if it lacks its program's format, as in a traceback."""

    process: str
    at: float
    level: str
    text: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fault:
    """Fault or start of a process by the soak."""

    at: float
    what: str
    target: str


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Cause of matching lines of some processes; with `faults`, only `within` seconds after one of those."""

    name: str
    processes: str
    text: str
    faults: tuple[str, ...] = ()
    within: float = 0.0
    #: True if the fault must have been of the same process.
    own: bool = False
    #: Further condition; its faults are those in time.
    when: Callable[[Line, Sequence[Fault]], bool] = lambda _line, _faults: True

    def explains(self, line: Line, faults: Sequence[Fault]) -> bool:
        """Return True if this is the cause of the line."""
        if not (re.fullmatch(self.processes, line.process) and re.search(self.text, line.text)):
            return False
        due = [f for f in faults if f.what in self.faults and 0 <= line.at - f.at + 0.5 <= self.within]
        due = [f for f in due if not self.own or f.target == line.process]
        return bool(due or not self.faults) and self.when(line, due)


def _only_restarted(line: Line, faults: Sequence[Fault]) -> bool:
    return set(line.fields.get("workers", ())) <= {fault.target for fault in faults}


def _fails_on_purpose(line: Line, _: Sequence[Fault]) -> bool:
    return line.fields.get("outcome") == "failed" and "as it was asked to" in str(line.fields.get("error"))


ENDS = ("SIGKILL", "SIGTERM")

#: Here a lease is 8 s, a leader checks every 1.5 s, and a doorbell counts as lost after 3 s.
CAUSES = (
    Cause(name="the load has jobs that fail once", processes=r"w\d", text="^attempt ended$", when=_fails_on_purpose),
    Cause(
        name="a worker was ended: its jobs begin again",
        processes=r"s\d",
        text="^restarted jobs of lost workers$",
        faults=ENDS,
        within=30.0,
        when=_only_restarted,
    ),
    Cause(
        name="a worker was ended: doorbells that it held were lost",
        processes=r"s\d",
        text="^rang lost doorbells again$",
        faults=ENDS,
        within=30.0,
    ),
    Cause(
        name="a worker was killed: the next one waits for its session",
        processes=r"w\d",
        text="^waiting: another process has this worker's id$",
        faults=("SIGKILL",),
        within=30.0,
        own=True,
    ),
    Cause(
        name="a worker was terminated: attempts that ran too long were released",
        processes=r"w\d",
        text="^(releasing what did not finish in time|attempt ended)$",
        faults=("SIGTERM",),
        within=20.0,
        own=True,
        when=lambda line, _: line.text != "attempt ended" or line.fields.get("outcome") == "released",
    ),
    Cause(
        name="the machine is busy: an app takes long to import",
        processes=r"w\d",
        text="^the app is still being imported$",
        faults=("start",),
        within=60.0,
        own=True,
    ),
    Cause(
        name="the machine is busy: etcd says that its disk or CPU is slow",
        processes="etcd",
        text=("took too long|slow fdatasync|failed to send out heartbeat on time|leader is overloaded"),
    ),
    Cause(
        name="etcd says how it was set up",
        processes="etcd",
        text=(
            "insecure traffic|simple token is not cryptographically signed|check file permission|"
            "Running http and grpc server on single port"
        ),
    ),
    Cause(
        name="Redis says how the machine is set up",
        processes="redis",
        text="overcommit|TCP backlog|Transparent Huge|no config file",
    ),
    Cause(
        name="the servers had just been started",
        processes="postgres",
        text="the database system is starting up",
        faults=("begin",),
        within=60.0,
    ),
)


def explain(line: Line, faults: Sequence[Fault]) -> str | None:
    """Return the cause of a line, or None."""
    return next((cause.name for cause in CAUSES if cause.explains(line, faults)), None)


def loud(process: str, text: str) -> Iterator[Line]:
    """Yield the lines of a process's log that need a cause."""
    read = {"postgres": _postgres, "redis": _redis}.get(process, _json)
    at = 0.0
    for raw in text.splitlines():
        line = read(process, raw, at)
        if line is not None:
            at = line.at
            if line.level in LOUD or line.level == "raw":
                yield line


def _json(process: str, raw: str, before: float) -> Line | None:
    """Parse a line of taskd or etcd. Text that is not JSON has the level `raw`: a traceback, or output of a library."""
    if not raw.strip():
        return None
    try:
        entry = json.loads(raw)
        text = str(entry["event"] if "event" in entry else entry["msg"])
        at = datetime.fromisoformat(entry.get("timestamp") or entry["ts"]).timestamp()
        return Line(process, at, str(entry["level"]).lower(), text, entry)
    except (ValueError, KeyError, TypeError):
        return Line(process, before, "raw", raw)


POSTGRES = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) UTC \[\d+\].*?\b([A-Z]+):  (.*)$")


def _postgres(process: str, raw: str, _: float) -> Line | None:
    """Parse a line of PostgreSQL; return None for a continuation of an earlier line."""
    match = POSTGRES.match(raw)
    if match is None:
        return None
    at = datetime.fromisoformat(match[1]).replace(tzinfo=UTC).timestamp()
    return Line(process, at, match[2].lower(), match[3])


REDIS = re.compile(r"^\d+:[A-Z] (\d+ \w{3} \d{4} \d\d:\d\d:\d\d\.\d+) ([.\-*#]) (.*)$")


def _redis(process: str, raw: str, before: float) -> Line | None:
    match = REDIS.match(raw)
    if match is None:
        return None
    try:
        at = datetime.strptime(match[1], "%d %b %Y %H:%M:%S.%f").astimezone().timestamp()
    except ValueError:
        at = before
    return Line(process, at, "warning" if match[2] == "#" else "info", match[3])
