"""The checker's output: a line for each invariant, and the whole history of jobs that broke one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from taskd.torture.checker import INVARIANTS, Ledger, Violation
from taskd.torture.history import AuditEvent, History, Sign, Step

#: Violations of each invariant that are printed with their job's history; all are counted.
STORIES = 5


def report(history: History, ledger: Ledger) -> Iterator[str]:
    """Yield the lines of the report."""
    meta = history.meta
    yield f"{meta.scenario or 'a run'}, seed {meta.seed}: {len(history.jobs)} jobs, {len(history.events)} events"
    if history.torn:
        yield f"the trace has {history.torn} torn lines, which are left out"
    counts = Counter(v.invariant for v in ledger.violations)
    for invariant in INVARIANTS:
        yield _verdict(invariant, ledger.examined[invariant], counts[invariant])
    for invariant in INVARIANTS:
        for violation in [v for v in ledger.violations if v.invariant == invariant][:STORIES]:
            yield ""
            yield from _story(history, violation)


def _verdict(invariant: str, looked: int, broken: int) -> str:
    if broken:
        return f"{invariant}: BROKEN {broken} times; looked at {looked}"
    return f"{invariant}: holds; looked at {looked}" if looked else f"{invariant}: looked at 0, so this shows nothing"


def _story(history: History, violation: Violation) -> Iterator[str]:
    job = "" if violation.job_id is None else f" job {violation.job_id}:"
    yield f"{violation.invariant}:{job} {violation.message}"
    if violation.job_id is not None:
        for at, line in sorted(_lines(history, violation.job_id)):
            yield f"  {at:.6f}  {line}"


def _lines(history: History, job_id: int) -> Iterator[tuple[float, str]]:
    events = history.events_of.get(job_id, [])
    row = history.row_of.get(job_id)
    key = row.dedupe_key if row else next((e.dedupe_key for e in events), None)
    for step in history.clients:
        if step.id == job_id or (key is not None and step.key == key):
            yield step.at, _of_client(step)
    for event in events:
        yield event.at, _of_event(event)
    for signs in history.signs_of.get(job_id, {}).values():
        for sign in signs:
            yield sign.at, _of_trace(sign)


def _of_client(step: Step) -> str:
    details = {"id": step.id, "status": step.status, "detail": step.detail, "reason": step.reason, "kind": step.kind}
    fields = "".join(f" {name}={value}" for name, value in details.items() if value is not None)
    return f"client  {step.op} {step.key or ''}{fields}"


def _of_event(event: AuditEvent) -> str:
    epoch = "" if event.epoch is None else f" epoch {event.epoch}"
    counters = f"failures {event.failures} crashes {event.crashes} losses {event.losses}"
    return (
        f"event   {event.version}. {event.from_status} -> {event.to_status} attempt {event.attempt} "
        f"dispatch {event.dispatch_seq} worker {event.worker_id} session {event.session_id} by {event.by}{epoch} "
        f"{counters} due {event.schedule_at:.6f} xid {event.xid} statement {event.statement_at:.6f} "
        f"committed {event.committed}"
    )


def _of_trace(sign: Sign) -> str:
    return f"trace   attempt {sign.attempt} {sign.what} {' '.join(sign.detail)} pid {sign.pid}"
