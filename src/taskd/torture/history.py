"""What a run leaves behind: a folder of files, and their records. The checker reads nothing else.

All times are Unix seconds by one machine's clock. `meta.json` and `jobs.ndjson` are the end, `clients.ndjson` what clients saw,
`faults.ndjson` what was done to the cluster, `trace` what the tasks wrote while they ran, and the others are the audit tables.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import msgspec

from taskd.domain.policy import Backoff
from taskd.torture.recording import record

__all__ = [
    "Event",
    "Fault",
    "History",
    "JobRow",
    "Meta",
    "OutputEvent",
    "RedisLeft",
    "SessionEvent",
    "Sign",
    "Step",
    "TermEvent",
    "record",
]

Line = TypeVar("Line", bound=msgspec.Struct)


class RedisLeft(msgspec.Struct, frozen=True):
    """What was still in Redis at the end."""

    entries: int
    pending: int


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """The run as a whole. `boot_offset` turns CLOCK_BOOTTIME into Unix time; `quiet` says that all should have ended."""

    scenario: str = ""
    seed: int | None = None
    session_ttl: float = 15.0
    ageing: float | None = None
    boot_offset: float = 0.0
    healed_at: float | None = None
    load_from: float = 0.0
    load_until: float = 0.0
    quiet: bool = False
    redis: RedisLeft | None = None
    grace: float = 30.0
    cancel_bound: float = 10.0

    def save(self, folder: Path) -> None:
        """Write `meta.json`, last of all: a folder without it is no history."""
        (folder / "meta.json").write_bytes(msgspec.json.encode(self))


class Step(msgspec.Struct, frozen=True, gc=False):
    """One line of a client: `op` is invoke, ok, fail, unknown, cancel, cancel_ok, cancel_late or cancel_unknown."""

    at: float
    op: str
    key: str | None = None
    id: int | None = None
    duplicate: bool | None = None
    task: str | None = None
    kind: str | None = None
    status: int | str | None = None
    detail: str | None = None
    reason: str | None = None


class Fault(msgspec.Struct, frozen=True):
    """One thing that was done to a process, a server or a link; "exit" is a process that ended."""

    at: float
    what: str
    target: str = ""
    pid: int | None = None
    until: float | None = None
    status: int | None = None


class Sign(msgspec.Struct, frozen=True, gc=False):
    """One line of a running task: start, alive, end, lock, held or unlock. `at` is Unix time."""

    job_id: int
    attempt: int
    what: str
    at: float
    pid: int
    detail: tuple[str, ...] = ()


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A row of `job_events`; `committed` is when its transaction did, if PostgreSQL keeps that."""

    job_id: int
    version: int
    from_status: str | None
    to_status: str
    task: str
    queue: str
    priority: int
    attempt: int
    worker_id: str | None = None
    session_id: str | None = None
    dispatch_seq: int | None = None
    epoch: int | None = None
    failures: int = 0
    crashes: int = 0
    losses: int = 0
    schedule_at: float
    dedupe_key: str | None = None
    by: str
    xid: int
    statement_at: float
    at: float
    committed: float | None = None

    @property
    def move(self) -> tuple[str | None, str]:
        """From where to where."""
        return self.from_status, self.to_status

    @property
    def effective_at(self) -> float:
        """When it took effect: at its commit if that is known, else when it was written."""
        return self.at if self.committed is None else self.committed


class TermEvent(msgspec.Struct, frozen=True):
    """A row of `term_events`."""

    epoch: int
    holder: str | None
    instance_id: str
    what: str
    xid: int
    at: float
    shard: int = 0
    shards: int = 1


class SessionEvent(msgspec.Struct, frozen=True):
    """A row of `session_events`."""

    session_id: str
    worker_id: str
    what: str
    expires_at: float
    by: str
    at: float


class OutputEvent(msgspec.Struct, frozen=True, gc=False):
    """A row of `output_events`: by a statement that began at that time, something was stored that an attempt had said."""

    job_id: int
    attempt: int
    by: str
    statement_at: float


class JobRow(msgspec.Struct, frozen=True, kw_only=True):
    """The last look at a job, live or finished."""

    id: int
    status: str
    task: str
    queue: str
    priority: int
    attempt: int
    worker_id: str | None = None
    failures: int = 0
    crashes: int = 0
    losses: int = 0
    max_retries: int = 0
    backoff: Backoff = Backoff()
    dedupe_key: str | None = None
    schedule_at: float
    created_at: float
    completed_at: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class History:
    """One run. `torn` counts lines of the trace that were cut off in the middle of being written."""

    meta: Meta = field(default_factory=Meta)
    clients: list[Step] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    trace: list[Sign] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    terms: list[TermEvent] = field(default_factory=list)
    sessions: list[SessionEvent] = field(default_factory=list)
    outputs: list[OutputEvent] = field(default_factory=list)
    jobs: list[JobRow] = field(default_factory=list)
    torn: int = 0

    @classmethod
    def load(cls, folder: Path) -> History:
        """Read a folder; a file that is not there is empty. Raises OSError without `meta.json`, ValueError for bad lines."""
        meta = msgspec.json.decode((folder / "meta.json").read_bytes(), type=Meta)
        trace, torn = _trace(folder / "trace", meta.boot_offset)
        return cls(
            meta=meta,
            clients=list(_lines(folder / "clients.ndjson", Step)),
            faults=sorted(_lines(folder / "faults.ndjson", Fault), key=lambda f: f.at),
            trace=trace,
            events=list(_lines(folder / "events.ndjson", Event)),
            terms=list(_lines(folder / "terms.ndjson", TermEvent)),
            sessions=list(_lines(folder / "sessions.ndjson", SessionEvent)),
            outputs=list(_lines(folder / "outputs.ndjson", OutputEvent)),
            jobs=list(_lines(folder / "jobs.ndjson", JobRow)),
            torn=torn,
        )

    @cached_property
    def events_of(self) -> dict[int, list[Event]]:
        """The events of each job, by version."""
        found: dict[int, list[Event]] = defaultdict(list)
        for event in self.events:
            found[event.job_id].append(event)
        for events in found.values():
            events.sort(key=lambda e: e.version)
        return dict(found)

    @cached_property
    def signs_of(self) -> dict[int, dict[int, list[Sign]]]:
        """The trace of each job and attempt, by time."""
        found: dict[int, dict[int, list[Sign]]] = defaultdict(lambda: defaultdict(list))
        for sign in sorted(self.trace, key=lambda s: s.at):
            found[sign.job_id][sign.attempt].append(sign)
        return {job: dict(attempts) for job, attempts in found.items()}

    @cached_property
    def row_of(self) -> dict[int, JobRow]:
        """The row of each job."""
        return {row.id: row for row in self.jobs}

    @cached_property
    def session_of(self) -> dict[str, list[SessionEvent]]:
        """The events of each session, by time."""
        found: dict[str, list[SessionEvent]] = defaultdict(list)
        for event in sorted(self.sessions, key=lambda e: e.at):
            found[event.session_id].append(event)
        return dict(found)


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
    """The signs, and how many lines were torn: a full disk or a kill cuts a line short."""
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
