"""The history of a run: a folder of files. The checker reads nothing else.

`meta.json`, `jobs.ndjson`, `schedules.ndjson` and `fires.ndjson` have the final state, `clients.ndjson` the clients' requests
and responses, `faults.ndjson` the faults, `trace` the lines of running tasks. The others are the audit tables.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import msgspec

from taskd.torture.recording import record
from taskd.torture.records import (
    AuditEvent,
    Fault,
    FireRow,
    JobRow,
    Meta,
    OutputEvent,
    ProgressEvent,
    RedisLeft,
    ScheduleRow,
    SessionEvent,
    Sign,
    Step,
    TermEvent,
)

__all__ = [
    "AuditEvent",
    "Fault",
    "FireRow",
    "History",
    "JobRow",
    "Meta",
    "OutputEvent",
    "ProgressEvent",
    "RedisLeft",
    "ScheduleRow",
    "SessionEvent",
    "Sign",
    "Step",
    "TermEvent",
    "record",
]

Line = TypeVar("Line", bound=msgspec.Struct)


@dataclass(frozen=True)
class History:
    """One run. `torn` counts lines of the trace that were cut off in the middle of being written."""

    meta: Meta = field(default_factory=Meta)
    clients: list[Step] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    trace: list[Sign] = field(default_factory=list)
    events: list[AuditEvent] = field(default_factory=list)
    terms: list[TermEvent] = field(default_factory=list)
    sessions: list[SessionEvent] = field(default_factory=list)
    outputs: list[OutputEvent] = field(default_factory=list)
    jobs: list[JobRow] = field(default_factory=list)
    schedules: list[ScheduleRow] = field(default_factory=list)
    fires: list[FireRow] = field(default_factory=list)
    torn: int = 0

    @classmethod
    def load(cls, folder: Path) -> History:
        """Read a folder; a missing file counts as empty. Raises OSError without `meta.json`, ValueError for bad lines."""
        meta = msgspec.json.decode((folder / "meta.json").read_bytes(), type=Meta)
        trace, torn = _trace(folder / "trace", meta.boot_offset)
        return cls(
            meta=meta,
            clients=list(_lines(folder / "clients.ndjson", Step)),
            faults=sorted(_lines(folder / "faults.ndjson", Fault), key=lambda f: f.at),
            trace=trace,
            events=list(_lines(folder / "events.ndjson", AuditEvent)),
            terms=list(_lines(folder / "terms.ndjson", TermEvent)),
            sessions=list(_lines(folder / "sessions.ndjson", SessionEvent)),
            outputs=list(_lines(folder / "outputs.ndjson", OutputEvent)),
            jobs=list(_lines(folder / "jobs.ndjson", JobRow)),
            schedules=list(_lines(folder / "schedules.ndjson", ScheduleRow)),
            fires=list(_lines(folder / "fires.ndjson", FireRow)),
            torn=torn,
        )

    @cached_property
    def events_of(self) -> dict[int, list[AuditEvent]]:
        """The events of each job, by version."""
        grouped: dict[int, list[AuditEvent]] = defaultdict(list)
        for event in self.events:
            grouped[event.job_id].append(event)
        for events in grouped.values():
            events.sort(key=lambda e: e.version)
        return dict(grouped)

    @cached_property
    def signs_of(self) -> dict[int, dict[int, list[Sign]]]:
        """The trace of each job and attempt, by time."""
        grouped: dict[int, dict[int, list[Sign]]] = defaultdict(lambda: defaultdict(list))
        for sign in sorted(self.trace, key=lambda s: s.at):
            grouped[sign.job_id][sign.attempt].append(sign)
        return {job: dict(attempts) for job, attempts in grouped.items()}

    @cached_property
    def row_of(self) -> dict[int, JobRow]:
        """The row of each job."""
        return {row.id: row for row in self.jobs}

    @cached_property
    def session_of(self) -> dict[str, list[SessionEvent]]:
        """The events of each session, by time."""
        grouped: dict[str, list[SessionEvent]] = defaultdict(list)
        for event in sorted(self.sessions, key=lambda e: e.at):
            grouped[event.session_id].append(event)
        return dict(grouped)


def _lines(path: Path, kind: type[Line]) -> Iterator[Line]:
    if not path.exists():
        return
    decoder = msgspec.json.Decoder(kind)
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield decoder.decode(line)
            except msgspec.MsgspecError as error:
                raise ValueError(f"{path.name}:{number}: {error}") from error


def _trace(path: Path, boot_offset: float) -> tuple[list[Sign], int]:
    """Return the signs, and the number of torn lines: a full disk or a kill cuts a line short."""
    signs: list[Sign] = []
    torn = 0
    if not path.exists():
        return signs, torn
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                job, attempt, what, at, pid, *detail = line.split()
                signs.append(Sign(int(job), int(attempt), what, float(at) + boot_offset, int(pid), tuple(detail)))
            except ValueError:
                torn += 1
    return signs, torn
