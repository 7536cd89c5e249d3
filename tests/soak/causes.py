"""Why a line of WARNING or ERROR is in a log. One that nothing here explains fails the soak."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

#: The worst that each program's words for it mean.
LOUD = ("warning", "error", "critical", "warn", "fatal", "panic", "dpanic")


@dataclass(frozen=True)
class Line:
    """One line of a log, or one that is not what its program writes (a traceback, say), then with level `raw`."""

    process: str
    at: float
    level: str
    text: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fault:
    """Something that the soak did to a process."""

    at: float
    what: str
    target: str


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Explains lines of some processes whose text matches. With `faults`: only for `within` seconds after one of those."""

    name: str
    processes: str
    text: str
    faults: tuple[str, ...] = ()
    within: float = 0.0
    #: Whether the fault must have been this very process's.
    own: bool = False
    #: What else must be so; the faults are those in time.
    when: Callable[[Line, Sequence[Fault]], bool] = lambda _line, _faults: True

    def explains(self, line: Line, faults: Sequence[Fault]) -> bool:
        """Whether it does."""
        if not (re.fullmatch(self.processes, line.process) and re.search(self.text, line.text)):
            return False
        due = [f for f in faults if f.what in self.faults and 0 <= line.at - f.at + 0.5 <= self.within]
        due = [f for f in due if not self.own or f.target == line.process]
        return bool(due or not self.faults) and self.when(line, due)


def _only_restarted(line: Line, faults: Sequence[Fault]) -> bool:
    return set(line.fields.get("workers", ())) <= {fault.target for fault in faults}


def _asked_to_fail(line: Line, _: Sequence[Fault]) -> bool:
    return line.fields.get("outcome") == "failed" and "as it was asked to" in str(line.fields.get("error"))


ENDS = ("SIGKILL", "SIGTERM")

#: A lease is 8 s here, a leader looks every 1.5 s, and a doorbell counts as lost after 3 s.
CAUSES = (
    Cause(name="the load has jobs that fail once", processes=r"w\d", text="^attempt ended$", when=_asked_to_fail),
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
        name="a worker was asked to end: what ran too long was released",
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
    """The cause of a line, or None."""
    return next((cause.name for cause in CAUSES if cause.explains(line, faults)), None)


def loud(process: str, text: str) -> Iterator[Line]:
    """The lines of a process's log that somebody should wonder about."""
    read = {"postgres": _postgres, "redis": _redis}.get(process, _json)
    at = 0.0
    for raw in text.splitlines():
        line = read(process, raw, at)
        if line is not None:
            at = line.at
            if line.level in LOUD or line.level == "raw":
                yield line


def _json(process: str, raw: str, before: float) -> Line | None:
    """A line of taskd's or etcd's. What is no JSON is loud: a traceback, or a word of a library's."""
    if not raw.strip():
        return None
    try:
        said = json.loads(raw)
        text = str(said["event"] if "event" in said else said["msg"])
        at = datetime.fromisoformat(said.get("timestamp") or said["ts"]).timestamp()
        return Line(process, at, str(said["level"]).lower(), text, said)
    except (ValueError, KeyError, TypeError):
        return Line(process, before, "raw", raw)


POSTGRES = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) UTC \[\d+\].*?\b([A-Z]+):  (.*)$")


def _postgres(process: str, raw: str, _: float) -> Line | None:
    """A line of PostgreSQL's; those that go on with an earlier one are none."""
    found = POSTGRES.match(raw)
    if found is None:
        return None
    at = datetime.fromisoformat(found[1]).replace(tzinfo=UTC).timestamp()
    return Line(process, at, found[2].lower(), found[3])


REDIS = re.compile(r"^\d+:[A-Z] (\d+ \w{3} \d{4} \d\d:\d\d:\d\d\.\d+) ([.\-*#]) (.*)$")


def _redis(process: str, raw: str, before: float) -> Line | None:
    found = REDIS.match(raw)
    if found is None:
        return None
    try:
        at = datetime.strptime(found[1], "%d %b %Y %H:%M:%S.%f").astimezone().timestamp()
    except ValueError:
        at = before
    return Line(process, at, "warning" if found[2] == "#" else "info", found[3])
