"""Hand-made histories for the checker: a small correct run, built move by move, that a test breaks in one place."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from taskd.domain.policy import Backoff
from taskd.torture.checker import check
from taskd.torture.history import (
    AuditEvent,
    Fault,
    FireRow,
    History,
    JobRow,
    Meta,
    OutputEvent,
    ScheduleRow,
    SessionEvent,
    Sign,
    Step,
    TermEvent,
)

#: The beginning of the run. The leader has led, and the worker lived, for longer than a lease by then.
START = 1_000_000.0
LEASE = 15.0
GRACE = 10.0
STEADY = Backoff(initial=2.0, factor=2.0, max=60.0, jitter=False)


class HistoryBuilder:
    """Builder of one run. Each move has the time that it is given; other values come from the move before."""

    def __init__(self) -> None:
        self.meta: dict[str, Any] = {"session_ttl": LEASE, "ageing": 60.0, "grace": GRACE, "quiet": False}
        self.clients: list[Step] = []
        self.faults: list[Fault] = []
        self.trace: list[Sign] = []
        self.events: list[AuditEvent] = []
        self.terms: list[TermEvent] = []
        self.sessions: list[SessionEvent] = []
        self.outputs: list[OutputEvent] = []
        self.schedules: list[ScheduleRow] = []
        self.fires: list[FireRow] = []
        #: Fields of jobs' rows that their events do not have, by job.
        self.limits: dict[int, dict[str, Any]] = {}
        self._xid = 100
        self.takeover(-100.0, 1, "L1")
        self.open(-100.0, "s1", "w1", lease=1000.0)

    # ------------------------------------------------------------ the cluster

    def takeover(self, at: float, epoch: int, holder: str, shard: int = 0, shards: int = 1) -> None:
        self.terms.append(TermEvent(epoch, holder, holder, "takeover", self.xid(), START + at, shard, shards))

    def resign(self, at: float, epoch: int, holder: str, shard: int = 0, shards: int = 1) -> None:
        self.terms.append(TermEvent(epoch, holder, holder, "resign", self.xid(), START + at, shard, shards))

    def open(self, at: float, session: str, worker: str, lease: float = LEASE) -> None:
        self._session(at, session, worker, "open", at + lease)

    def renew(self, at: float, session: str, worker: str, lease: float = LEASE) -> None:
        self._session(at, session, worker, "renew", at + lease)

    def end(self, at: float, session: str, worker: str, by: str = "taskd:leader:L1") -> None:
        expires = max(s.expires_at for s in self.sessions if s.session_id == session) - START
        self._session(at, session, worker, "end", expires, by)

    def _session(self, at: float, session: str, worker: str, what: str, expires: float, by: str = "") -> None:
        by = by or f"taskd:session:{worker}"
        self.sessions.append(SessionEvent(session, worker, what, START + expires, by, START + at))

    def fault(self, at: float, what: str, target: str, **more: Any) -> None:
        if more.get("until") is not None:
            more["until"] += START
        self.faults.append(Fault(START + at, what, target, **more))

    def xid(self) -> int:
        self._xid += 1
        return self._xid

    # ------------------------------------------------------------ one job's moves

    def submit(self, at: float, job: int, *, due: float | None = None, **fields: Any) -> None:
        """Store a job and answer its client. The job's key is k<job>."""
        key = f"k{job}"
        self.step(at - 0.02, "invoke", key=key, task="work")
        self.store(at, job, due=due, **fields)
        self.step(at + 0.01, "ok", key=key, id=job)

    def store(self, at: float, job: int, *, due: float | None = None, **fields: Any) -> None:
        """Store a job without an answer to its client."""
        values: dict[str, Any] = {
            "version": 1,
            "from_status": None,
            "to_status": "pending",
            "task": "work",
            "queue": "default",
            "priority": 0,
            "attempt": 0,
            "dispatch_seq": 0,
            "dedupe_key": f"k{job}",
            "schedule_at": START + (at if due is None else due),
            "by": "taskd:intake:s1",
        }
        self._event(at, job, values | fields)

    def move(self, at: float, job: int, target: str, **fields: Any) -> None:
        """Append the next move of a job."""
        last = next(e for e in reversed(self.events) if e.job_id == job)
        values = msgspec.structs.asdict(last)
        values |= {"version": last.version + 1, "from_status": last.to_status, "to_status": target}
        values |= {"xid": None, "epoch": None}
        if values["from_status"] in ("pending", "queued"):
            values |= {"session_id": None, "worker_id": None}
        self._event(at, job, values | fields)

    def _event(self, at: float, job: int, values: dict[str, Any]) -> None:
        values |= {"job_id": job, "at": START + at, "committed": START + at + 0.001}
        values["statement_at"] = START + values.pop("began", at - 0.001)
        values["xid"] = values.get("xid") or self.xid()
        self.events.append(AuditEvent(**values))

    def dispatch(self, at: float, *jobs: int, by: str = "L1", **fields: Any) -> None:
        """Dispatch jobs in one batch."""
        xid = self.xid()
        for job in jobs:
            seq = next(e for e in reversed(self.events) if e.job_id == job).dispatch_seq or 0
            values = {"by": f"taskd:leader:{by}", "dispatch_seq": seq + 1, "xid": xid}
            self.move(at, job, "queued", **(values | fields))

    def claim(self, at: float, job: int, *, session: str = "s1", worker: str = "w1", **fields: Any) -> None:
        last = next(e for e in reversed(self.events) if e.job_id == job)
        values = {
            "attempt": last.attempt + 1,
            "session_id": session,
            "worker_id": worker,
            "by": f"taskd:claim:{worker}",
        }
        self.move(at, job, "running", **(values | fields))

    def run(self, since: float, until: float, job: int, attempt: int = 1, *, ends: bool = True) -> None:
        """Append the trace that a task writes while it runs."""
        self.sign(since, job, attempt, "start")
        self.sign(until, job, attempt, "end" if ends else "alive")

    def sign(self, at: float, job: int, attempt: int, what: str, *detail: str) -> None:
        self.trace.append(Sign(job, attempt, what, START + at, 4000 + attempt, detail))

    def settle(self, at: float, job: int, target: str = "completed", *, worker: str = "w1", **fields: Any) -> None:
        self.move(at, job, target, **({"by": f"taskd:settle:{worker}"} | fields))

    def write_output(self, at: float, job: int, attempt: int = 1, worker: str = "w1") -> None:
        self.outputs.append(OutputEvent(job, attempt, f"taskd:log:{worker}", START + at))

    def step(self, at: float, op: str, **fields: Any) -> None:
        self.clients.append(Step(START + at, op, **fields))

    def whole(self, at: float, job: int, **fields: Any) -> None:
        """Submit, dispatch, run and complete a job within a second."""
        self.submit(at, job, **fields)
        self.dispatch(at + 0.1, job)
        self.claim(at + 0.2, job)
        self.run(at + 0.3, at + 0.6, job)
        self.settle(at + 0.7, job)

    # ------------------------------------------------------------ schedules

    def schedule(self, name: str = "pulse", *, until: float, **fields: Any) -> None:
        """Add a schedule that ticks each second from START on. Every tick up to `until` is decided."""
        defaults: dict[str, Any] = {"every": 1.0, "anchor": START, "created_at": START, "decided_until": START + until}
        self.schedules.append(ScheduleRow(name=name, **(defaults | fields)))

    def fire(
        self, tick: float, job: int | None, *, at: float | None = None, state: str = "closed", name: str = "pulse"
    ) -> None:
        """Decide a tick, and store its job if it has one."""
        fired = tick + 0.01 if at is None else at
        self.fires.append(FireRow(schedule=name, fire_at=START + tick, fired_at=START + fired, state=state, job_id=job))
        if job is not None:
            self.store(fired, job, dedupe_key=None, by="taskd:leader:L1")
            self.limits[job] = {"schedule": name, "fire_at": iso(tick)}

    def fired(self, tick: float, job: int, *, name: str = "pulse", lasts: float = 0.5) -> None:
        """Decide a tick, and run its job to the end."""
        self.fire(tick, job, name=name)
        self.dispatch(tick + 0.02, job)
        self.claim(tick + 0.03, job)
        self.run(tick + 0.04, tick + lasts - 0.01, job)
        self.settle(tick + lasts, job)

    # ------------------------------------------------------------ the result

    def rows(self) -> list[JobRow]:
        """Return the row of each job, by its last event."""
        last = {e.job_id: e for e in self.events}
        created = {e.job_id: e.at for e in reversed(self.events)}
        defaults: dict[str, Any] = {"max_retries": 3, "backoff": STEADY}
        return [
            JobRow(
                id=e.job_id,
                status=e.to_status,
                task=e.task,
                queue=e.queue,
                priority=e.priority,
                attempt=e.attempt,
                failures=e.failures,
                crashes=e.crashes,
                losses=e.losses,
                dedupe_key=e.dedupe_key,
                schedule_at=e.schedule_at,
                created_at=created[e.job_id],
                **(defaults | self.limits.get(e.job_id, {})),
            )
            for e in last.values()
        ]

    def build(self, jobs: Callable[[list[JobRow]], list[JobRow]] = lambda rows: rows) -> History:
        return History(
            meta=Meta(**self.meta),
            clients=self.clients,
            faults=sorted(self.faults, key=lambda f: f.at),
            trace=self.trace,
            events=self.events,
            terms=self.terms,
            sessions=self.sessions,
            outputs=self.outputs,
            jobs=jobs(self.rows()),
            schedules=self.schedules,
            fires=self.fires,
        )

    def broken(self, jobs: Callable[[list[JobRow]], list[JobRow]] = lambda rows: rows) -> set[tuple[str, int | None]]:
        """Return the broken invariants, each with its job."""
        return {(v.invariant, v.job_id) for v in check(self.build(jobs))}


def running_on_w2() -> HistoryBuilder:
    """Return a history in which job 1 runs on worker w2, whose lease ends at 5."""
    history = HistoryBuilder()
    history.open(-10.0, "s2", "w2")
    history.submit(0.0, 1)
    history.dispatch(0.1, 1)
    history.claim(0.2, 1, session="s2", worker="w2")
    return history


def iso(at: float) -> str:
    """Return the time in the form of a job's metadata."""
    return datetime.fromtimestamp(START + at, UTC).isoformat().replace("+00:00", "Z")
