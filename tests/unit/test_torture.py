"""Tests of the torture's plan of faults, its verdict, its view and its consent."""

from __future__ import annotations

import io
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from rich.console import Console

from taskd.cli import torture
from taskd.cli.main import run
from taskd.domain.shard import shard_of
from taskd.torture import fault_plan
from taskd.torture.checker import INVARIANTS
from taskd.torture.faultlog import FaultLog, kinds
from taskd.torture.history import AuditEvent, Fault, History, JobRow, Meta, Sign, Step, TermEvent
from taskd.torture.observer import Observation, ObservedLeader
from taskd.torture.queues import queues
from taskd.torture.verdict import PROMISES, judge, show
from taskd.torture.view import Scene, View

MEMBERS = {"scheduler": ["s-1", "s-2"], "worker": ["w-1", "w-2", "w-3"]}
SERVERS = ("postgres", "redis", "etcd")
AT = 1_000_000.0
LEADERS = (ObservedLeader(0, "scheduler-2", 4), ObservedLeader(1, None, 7))


# ---------------------------------------------------------------- the plan


def test_a_seed_plans_the_same_faults_again_and_another_seed_others() -> None:
    first, again, other = (fault_plan.plan(Random(seed), 300, MEMBERS, SERVERS) for seed in (1, 1, 2))
    assert first == again != other


def test_a_plan_has_every_kind_of_fault_and_ends_before_the_load() -> None:
    planned = fault_plan.plan(Random(3), 300, MEMBERS, SERVERS)
    assert {(s.what, _role(s.target)) for s in planned} == {(what, whom) for what, whom, _ in fault_plan.DECK}
    assert all(0 < s.at < 300 * (1 - fault_plan.CALM) for s in planned)
    assert all((s.hold > 0) == (s.what in ("SIGSTOP", "stop")) for s in planned)


def test_without_servers_of_its_own_a_plan_attacks_members_only() -> None:
    planned = fault_plan.plan(Random(3), 300, MEMBERS, ())
    assert {s.target for s in planned} == {name for names in MEMBERS.values() for name in names}
    assert len(planned) > 50


def _role(target: str) -> str:
    return {"s": "scheduler", "w": "worker"}[target[0]] if "-" in target else target


def test_faults_are_counted_by_kind_and_their_ends_are_not(tmp_path: Path) -> None:
    log = FaultLog(tmp_path / "faults.ndjson")
    for target in ("torture-1-worker-1", "worker-2"):
        log.note("SIGSTOP", target, " for 3 s", pid=7, pids=[7, 8])
        log.note("SIGCONT", target, pid=7)
    log.note("SIGKILL", "postgres")
    log.note("restart", "postgres")
    log.close()
    assert log.counts == {"worker frozen": 2, "PostgreSQL killed": 1}
    assert [what for _, what in log.latest][-2:] == ["worker-2 frozen for 3 s", "PostgreSQL killed"]
    Meta().save(tmp_path)
    assert kinds(History.load(tmp_path).faults) == log.counts


@pytest.mark.parametrize("shards", [1, 2, 3, 8])
def test_the_load_has_a_queue_for_every_shard(shards: int) -> None:
    names = queues("torture", shards)
    assert len(set(names)) == len(names) == max(3, shards)
    assert {shard_of(name, shards) for name in names} == set(range(shards))
    assert all(name.startswith("torture-") for name in names)


# ---------------------------------------------------------------- the verdict


def _event(job: int, version: int, source: str | None, target: str, **more: Any) -> AuditEvent:
    fields: dict[str, Any] = {
        "task": "nap",
        "queue": "default",
        "priority": 0,
        "attempt": 0,
        "schedule_at": AT,
        "dispatch_seq": 0,
        "by": "taskd:writes:s-1",
        "xid": 10 * job + version,
        "statement_at": AT + version,
        "at": AT + version,
        **more,
    }
    return AuditEvent(job_id=job, version=version, from_status=source, to_status=target, **fields)


def _job(job: int) -> list[AuditEvent]:
    """Return the events of a job that ran well."""
    held = {"worker_id": "w-1", "session_id": "s", "dispatch_seq": 1, "attempt": 1, "by": "taskd:settle:w-1"}
    return [
        _event(job, 1, None, "pending"),
        _event(job, 2, "pending", "queued", by="taskd:leader:L", epoch=1, dispatch_seq=1),
        _event(job, 3, "queued", "running", **held),
        _event(job, 4, "running", "completed", **held),
    ]


def _row(job: int, status: str = "completed") -> JobRow:
    return JobRow(
        id=job, status=status, task="nap", queue="default", priority=0, attempt=1, schedule_at=AT, created_at=AT
    )


def _good() -> dict[str, Any]:
    """Return the parts of a correct history of two jobs."""
    return {
        "meta": Meta(seed=5, quiet=True, load_from=AT, load_until=AT + 10, healed_at=AT + 6),
        "clients": [
            step
            for job in (1, 2)
            for step in (
                Step(AT, "invoke", key=f"k{job}", task="nap"),
                Step(AT + 1.5, "ok", key=f"k{job}", id=job, duplicate=False),
            )
        ],
        "events": [event for job in (1, 2) for event in _job(job)],
        "terms": [TermEvent(1, "L", "s-1", "takeover", 1, AT - 5)],
        "trace": [
            Sign(job, 1, what, AT + 3 + late, 9) for job in (1, 2) for what, late in (("start", 0.1), ("end", 0.2))
        ],
        "jobs": [_row(1), _row(2)],
    }


def _shown(history: History) -> str:
    out = Console(file=io.StringIO(), width=120)
    show(out, judge(history), Path("somewhere"))
    text = out.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO from above
    return " ".join(str(text).split())


def test_a_clean_history_is_judged_clean() -> None:
    verdict = judge(History(**_good()))
    assert verdict.troubles == []
    assert verdict.clean
    assert (verdict.accepted, verdict.ended, verdict.lost, verdict.doubled) == (2, {"completed": 2}, 0, 0)
    assert verdict.longest_pause == 8.0
    assert verdict.pause_began == AT + 2
    assert "nothing lost, nothing doubled" in _shown(History(**_good()))


def test_an_accepted_job_that_is_gone_is_lost() -> None:
    parts = _good()
    parts["jobs"] = [_row(1)]
    parts["events"] = _job(1)
    verdict = judge(History(**parts))
    assert (verdict.lost, verdict.clean) == (1, False)
    assert "I1" in {p.name for p in verdict.promises if p.broken}
    shown = _shown(History(**parts))
    assert "1 job lost: accepted, and gone" in shown
    assert "I1 broken" in shown
    assert "nothing lost" not in shown


def test_a_job_that_ended_twice_is_doubled() -> None:
    parts = _good()
    parts["events"].append(_event(2, 5, "completed", "completed", attempt=1, dispatch_seq=1))
    verdict = judge(History(**parts))
    assert (verdict.doubled, verdict.lost, verdict.clean) == (1, 0, False)
    assert "1 job doubled: ended more than once" in _shown(History(**parts))


def test_a_job_that_is_still_waiting_is_not_called_lost() -> None:
    parts = _good()
    parts["meta"] = msgspec.structs.replace(parts["meta"], quiet=False)
    parts["jobs"] = [_row(1), _row(2, "running")]
    parts["events"] = [*_job(1), *_job(2)[:3]]
    verdict = judge(History(**parts))
    assert (verdict.lost, verdict.unfinished, verdict.clean) == (0, 1, False)
    assert verdict.troubles == ["1 job not finished when the cluster had been whole for a minute"]


def test_a_submit_that_was_never_answered_is_reported_and_one_that_was_refused_is_not() -> None:
    parts = _good()
    parts["clients"] += [
        Step(AT + 2, "invoke", key="k3", task="nap"),
        Step(AT + 3, "fail", key="k3", status=422),
        Step(AT + 2, "invoke", key="k4", task="nap"),
        Step(AT + 3, "unknown", key="k4", reason="ReadTimeout"),
    ]
    assert judge(History(**parts)).troubles == ["1 submit never got an answer, despite all repetitions"]


def test_a_process_that_crashed_is_reported_and_one_that_was_killed_is_not() -> None:
    parts = _good()
    parts["faults"] = [
        Fault(AT + 1, "SIGKILL", "worker-1", pid=4),
        Fault(AT + 1, "exit", "worker-1", pid=4, status=-9),
        Fault(AT + 2, "exit", "worker-2", pid=5, status=-6),
        Fault(AT + 3, "SIGTERM", "worker-3", pid=6),
        Fault(AT + 4, "exit", "worker-3", pid=6, status=0),
    ]
    assert judge(History(**parts)).crashed == ["worker-2 (killed by SIGABRT)"]
    assert "worker-2 (killed by SIGABRT)" in _shown(History(**parts))


def test_every_invariant_has_its_promise() -> None:
    assert set(PROMISES) == set(INVARIANTS)


# ---------------------------------------------------------------- the view


def _scene(phase: str, latest: Sequence[tuple[float, str]]) -> Scene:
    """Return a scene 7 seconds before the end of the faults."""
    return Scene(
        phase=phase,
        left=7.0,
        seconds=60.0,
        accepted=1234,
        observation=Observation(finished=1200, running=20, waiting=14, repeated=3, leaders=LEADERS),
        faults=Counter({"worker killed": 1}),
        latest=latest,
    )


@pytest.mark.parametrize("terminal", [True, False])
def test_a_view_shows_phase_faults_counts_and_leaders(terminal: bool) -> None:
    out = Console(file=io.StringIO(), force_terminal=terminal, width=100, height=30)
    latest = [(time.time(), "worker-1 killed")]
    with View(out) as view:
        view.show(_scene("load and faults", latest))
        view.show(_scene("waiting", latest))
    shown = str(out.file.getvalue())  # type: ignore[attr-defined]  # it is the StringIO from above
    for part in ("load and faults", "waiting", "worker-1 killed", "1,234 accepted", "scheduler-2", "none", "0:07"):
        assert part in shown
    if not terminal:
        assert shown.count("worker-1 killed") == 1


# ---------------------------------------------------------------- the consent


def test_given_servers_are_not_touched_without_a_terminal_or_a_yes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    monkeypatch.setenv("POSTGRES_DSN", "postgresql://ann:secret@127.0.0.1:1/taskd")
    assert run(["torture", "--given"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "WARNING" in captured.err
    assert "secret" not in captured.err
    assert captured.err.splitlines()[-1].startswith("error: there is no terminal to ask on")
    assert not (tmp_path / "taskd-torture").exists()


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("postgresql://ann:pw@host/db", "postgresql://ann:***@host/db"),
        ("host=h password=pw dbname=d", "host=h password=*** dbname=d"),
        ("postgresql://host/db?user=ann&password=pw&x=1", "postgresql://host/db?user=ann&password=***&x=1"),
        ("redis://:pw@host:1", "redis://:***@host:1"),
        ("localhost:6379", "localhost:6379"),
    ],
)
def test_the_address_of_a_server_is_shown_without_its_password(given: str, shown: str) -> None:
    assert torture.without_password(given) == shown


def test_the_verdict_is_plain_json() -> None:
    document = json.loads(json.dumps(msgspec.to_builtins(judge(History(**_good())))))
    assert document["clean"] is True
    assert {p["name"] for p in document["promises"]} == set(PROMISES)
