"""Tests of explanations: the reason that is named first, the text of each, and the page that lists them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from taskd.domain.config import Version
from taskd.domain.explain.decide import explain
from taskd.domain.explain.explanation import Explanation
from taskd.domain.explain.reasons import FACTS, REASONS
from taskd.domain.explain.situation import (
    Busy,
    EntryLocation,
    Holder,
    JobSnapshot,
    Progress,
    Queue,
    Seen,
    ServingWorker,
    Situation,
)
from taskd.domain.fencing import LeaderRow
from taskd.domain.health import Health
from taskd.domain.job import Attempt, JobStatus
from taskd.domain.phrases import main_line, span

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
W1, W2 = UUID(int=1), UUID(int=2)
AWAY = Health(ok=False, since=(NOW - timedelta(seconds=90)).timestamp(), detail="connection refused")
PAGE = Path(__file__).parents[2] / "docs" / "explain.md"


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def leader(age: float = 1.0, holder: UUID | None = W1) -> LeaderRow:
    return LeaderRow(epoch=3, holder=holder, instance_id="s1", etcd_revision=1, age=age)


def job(status: JobStatus = JobStatus.PENDING, **more: Any) -> JobSnapshot:
    fields: dict[str, Any] = {"now": NOW, "id": 17, "task": "resize", "queue": "images", "priority": 5}
    return JobSnapshot(status=status, **(fields | {"schedule_at": ago(2)} | more))


def serving(*busy: int, **more: Any) -> Queue:
    """Return a queue of workers w1, w2 … with two slots each, of which so many are busy."""
    return Queue(servers=[ServingWorker(UUID(int=n), f"w{n}", 2, b) for n, b in enumerate(busy, 1)], bound=100, **more)


def situation(subject: JobSnapshot | None = None, **more: Any) -> Situation:
    """Return the situation of a job that nothing holds up."""
    fields: dict[str, Any] = {
        "job": subject or job(),
        "leader": leader(),
        "line": ("s1", "s2"),
        "queue": serving(0, 0),
        "seen": {W1: Seen(tasks=frozenset({"resize"})), W2: Seen(tasks=frozenset({"resize"}))},
    }
    return Situation(**(fields | more))


def paused(*keys: str) -> dict[str, Any]:
    version = Version(version=1, at=ago(60), who="ann@box", what="set", values=dict.fromkeys(keys, True))
    return {"live": version, "set_by": dict.fromkeys(keys, version)}


def codes(explanation: Explanation) -> list[str]:
    return [explanation.reason, *(fact.reason for fact in explanation.beside)]


QUEUE_PAUSED = paused("queue.images.paused")
UNLED = {"leader": leader(60.0)}
REDIS = {"redis": AWAY}
UNSERVED = {"queue": serving()}
QUIET = paused("worker.w1.quiet", "worker.w2.quiet")
UNKNOWN: dict[str, Any] = {"seen": {W1: Seen(tasks=frozenset({"other"})), W2: Seen()}}
BEHIND = {"queue": serving(0, 0, ahead=3)}
FULL = {"queue": serving(2, 2)}
LADDER: list[tuple[str, dict[str, Any]]] = [
    ("queue_paused", QUEUE_PAUSED),
    ("no_leader", UNLED),
    ("redis_away", REDIS),
    ("no_worker", UNSERVED),
    ("task_unknown", UNKNOWN),
    ("jobs_ahead", BEHIND),
    ("slots_busy", FULL),
    ("dispatching", {}),
]


@pytest.mark.parametrize("first", range(len(LADDER)))
def test_the_reason_that_would_hold_without_all_others_comes_first(first: int) -> None:
    code, more = LADDER[first]
    for other, worse in LADDER[first:]:
        explanation = explain(situation(**{**worse, **more}))
        assert explanation.reason == code
        compatible = not (worse.keys() & more.keys())
        # Without workers there are no reasons about them.
        if compatible and code != "no_worker" and other not in (code, "dispatching"):
            assert other in codes(explanation)


def test_a_due_time_in_the_future_comes_before_all_other_reasons_which_stand_beside_it() -> None:
    late = job(schedule_at=NOW + timedelta(hours=2, minutes=5))
    explanation = explain(situation(late, **QUEUE_PAUSED, **UNLED, **REDIS, **UNSERVED))
    assert codes(explanation) == ["scheduled", "queue_paused", "no_leader", "redis_away", "no_worker"]
    assert explanation.summary == "It is scheduled for 2026-01-31T14:05:00Z, in 2 h 5 min."
    assert explanation.estimate is not None
    assert (explanation.estimate.seconds, explanation.estimate.at_least) == (7500.0, True)
    assert explanation.detail.due_at == late.schedule_at


def attempt(outcome: str, error: str | None = None) -> Attempt:
    return Attempt(2, "w1", ago(9), ago(5), outcome, error)


@pytest.mark.parametrize(
    ("outcome", "more", "failure", "left"),
    [
        ("failed", {"failures": 1}, "attempt 2 failed: ValueError: no", "it may fail twice more"),
        ("failed", {"failures": 3}, "attempt 2 failed: ValueError: no", "the next failure is final"),
        ("timed_out", {"failures": 2}, "attempt 2 ran out of its time: ValueError: no", "it may fail once more"),
        ("crashed", {"crashes": 1}, "attempt 2 crashed its executor: ValueError: no", "it may crash once more"),
        ("crashed", {"crashes": 2}, "attempt 2 crashed its executor: ValueError: no", "the next crash is final"),
    ],
)
def test_a_retry_names_its_failure_and_the_retries_that_are_left(
    outcome: str, more: dict[str, Any], failure: str, left: str
) -> None:
    last = attempt(outcome, "Traceback (most recent call last):\n  boom\nValueError: no\n")
    explanation = explain(situation(job(schedule_at=NOW + timedelta(seconds=30), last=last, attempt=2, **more)))
    assert (explanation.reason, explanation.summary) == (
        "retry",
        f"It is tried again at 2026-01-31T12:00:30Z, in 30 s; {failure}",
    )
    assert left in explanation.advice


def test_a_retry_that_no_worker_can_run_is_explained_by_that() -> None:
    last = attempt("failed", "there is no task 'resize' in the app x; it has: y")
    waiting = job(schedule_at=NOW + timedelta(seconds=30), last=last, attempt=2, failures=1)
    assert codes(explain(situation(waiting, **UNKNOWN))) == ["task_unknown", "retry"]
    scheduled = job(schedule_at=NOW + timedelta(seconds=30))
    assert codes(explain(situation(scheduled, **UNKNOWN))) == ["scheduled", "task_unknown"]


def test_a_task_is_called_unknown_only_if_each_worker_has_reported_its_tasks() -> None:
    assert "task_unknown" not in codes(explain(situation(seen={W1: Seen()})))
    assert "task_unknown" not in codes(explain(situation(**UNKNOWN, etcd=AWAY)))
    knowing: dict[UUID, Seen] = {W1: Seen(), W2: Seen(tasks=frozenset({"resize"}))}
    assert "task_unknown" not in codes(explain(situation(seen=knowing)))
    # The worker that knows it takes no new jobs.
    assert explain(situation(seen=knowing, **paused("worker.w2.quiet"))).reason == "task_unknown"


def test_quiet_and_draining_workers_are_named() -> None:
    seen = {W2: Seen(tasks=frozenset({"resize"}), draining=True)}
    explanation = explain(situation(seen=seen, **paused("worker.w1.quiet")))
    assert explanation.reason == "workers_quiet"
    assert explanation.summary == (
        "Every worker that serves queue images takes nothing new: w1 is quiet since 2026-01-31T11:59:00Z by ann@box,"
        " w2 drains."
    )
    assert explain(situation(**paused("worker.w1.quiet"))).reason == "dispatching"
    many = explain(situation(queue=serving(*[0] * 30), **paused(*(f"worker.w{n}.quiet" for n in range(1, 31)))))
    assert many.summary.endswith("w3 is quiet since 2026-01-31T11:59:00Z by ann@box, and 27 more.")
    assert many.detail.workers is not None
    assert len(many.detail.workers) == 20


@pytest.mark.parametrize(
    ("more", "cause"),
    [
        ({}, "s1 is elected in etcd but does not renew its term in PostgreSQL"),
        ({"line": ("s2",)}, "s2 is elected in etcd and has not begun its term in PostgreSQL"),
        ({"line": ()}, "no scheduler stands for election"),
        ({"etcd": AWAY}, "etcd is away, and without it the next one waits until the last term is 10 s old"),
    ],
)
def test_the_cause_of_a_missing_leader_is_named(more: dict[str, Any], cause: str) -> None:
    explanation = explain(situation(**{**UNLED, **more}))
    assert explanation.summary == f"No scheduler leads the cluster, since 2026-01-31T11:59:00Z: {cause}."


def test_a_shard_that_was_never_led_and_one_whose_leader_resigned_are_unled() -> None:
    for row in (None, leader(float("inf")), leader(1.0, None)):
        explanation = explain(situation(leader=row, shard=2, shards=3))
        assert (explanation.reason, explanation.detail.shard) == ("no_leader", 2)
        assert "leads shard 2, since " in explanation.summary


def test_a_silent_leader_stands_beside() -> None:
    assert codes(explain(situation(leader=leader(6.0)))) == ["dispatching", "leader_silent"]


def rates(rate: float) -> dict[UUID, Seen]:
    known = frozenset({"resize"})
    return {W1: Seen(tasks=known, rates={"images": rate}), W2: Seen(tasks=known, rates={"images": rate})}


def test_an_estimate_needs_the_rates_of_all_workers_that_take_jobs() -> None:
    behind: dict[str, Any] = {"queue": serving(2, 2, ahead=9, rung=4)}
    explanation = explain(situation(**behind, seen=rates(0.25)))
    assert explanation.summary == "13 jobs are ahead of it in queue images."
    estimate = explanation.estimate
    assert estimate is not None
    assert (estimate.seconds, estimate.at_least) == (28.0, False)  # 13 jobs and itself, at 0.5 a second
    assert "0.5 a second" in estimate.basis
    assert explain(situation(**behind, seen={W1: rates(1)[W1]})).estimate is None
    assert explain(situation(**behind, seen=rates(0.5), etcd=AWAY)).estimate is None
    explanation = explain(situation(**behind, seen=rates(0)))
    assert explanation.estimate is None
    assert codes(explanation) == ["jobs_ahead", "slots_busy", "nothing_ends"]


def test_a_count_that_met_its_bound_says_at_least() -> None:
    explanation = explain(situation(queue=serving(2, 2, ahead=100), seen=rates(1)))
    assert explanation.summary == "At least 100 jobs are ahead of it in queue images."
    assert explanation.detail.ahead_at_least
    assert explanation.estimate is not None
    assert explanation.estimate.at_least
    assert explain(situation(queue=serving(2, ahead=1))).summary == "1 job is ahead of it in queue images."


def test_busy_slots_are_named_with_their_jobs() -> None:
    longest = [Busy(3, "crawl", "other", "w1", ago(300))]
    explanation = explain(situation(queue=serving(2, 2, longest=longest)))
    assert (explanation.reason, explanation.detail.longest, explanation.detail.slots) == ("slots_busy", longest, 4)
    assert explain(situation(queue=serving(2, 1))).reason == "dispatching"
    # The slots of a quiet worker do not count.
    assert explain(situation(queue=serving(2, 0), **paused("worker.w2.quiet"))).reason == "slots_busy"


QUEUED = job(JobStatus.QUEUED, queued_at=ago(1), dispatch_seq=1)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"place": EntryLocation(worker_id="w1", idle=4.0)}, ["delivered"]),
        ({"place": EntryLocation(worker_id="w1", idle=4.0), **QUEUE_PAUSED}, ["delivered", "queue_paused"]),
        ({"place": EntryLocation(worker_id="w1", idle=4.0), **UNSERVED}, ["delivered", "no_worker"]),
        ({"place": EntryLocation(gone=True)}, ["doorbell_lost"]),
        ({"place": EntryLocation(gone=True), **UNLED}, ["no_leader"]),
        ({"place": EntryLocation(gone=True), **QUEUE_PAUSED}, ["queue_paused", "doorbell_lost"]),
        ({"place": EntryLocation(gone=True), **FULL}, ["slots_busy", "doorbell_lost"]),
        ({"place": EntryLocation(), **UNLED}, ["offered"]),
        ({"place": EntryLocation(), **QUEUE_PAUSED}, ["queue_paused"]),
        ({"place": EntryLocation(), **UNSERVED}, ["no_worker"]),
        ({"place": EntryLocation(ahead=2), **FULL}, ["jobs_ahead", "slots_busy"]),
        ({"place": EntryLocation(), **FULL}, ["slots_busy"]),
        ({"redis": AWAY}, ["redis_away"]),
        ({"place": EntryLocation()}, ["offered"]),
    ],
)
def test_a_queued_job_is_explained_by_its_entry_in_redis(more: dict[str, Any], expected: list[str]) -> None:
    assert codes(explain(situation(QUEUED, **more))) == expected


def test_an_entry_that_was_dispatched_just_now_is_on_its_way_and_not_lost() -> None:
    fresh = job(JobStatus.QUEUED, queued_at=ago(0.5), dispatch_seq=1)
    assert codes(explain(situation(fresh, place=EntryLocation(gone=True)))) == ["offered"]
    assert codes(explain(situation(fresh, place=EntryLocation(gone=True), **UNLED))) == ["offered"]


def test_lost_doorbells_are_counted_as_dispatches_without_a_claim() -> None:
    explanation = explain(situation(job(dispatch_seq=3, attempt=1)))
    assert explanation.beside[0].summary == "It was dispatched twice without a claim: its entry in Redis was lost."
    assert "rung_again" not in codes(explain(situation(job(dispatch_seq=1, attempt=1))))
    assert "rung_again" not in codes(explain(situation(QUEUED, place=EntryLocation())))


@pytest.mark.parametrize(
    ("outcome", "code", "summary"),
    [
        ("released", "released", "Attempt 2 was given back by w1 at no cost, as happens when a worker stops."),
        ("lost", "lost", "Attempt 2 ended when its worker w1 disappeared."),
        ("failed", "failed_before", "Attempt 2 failed: ValueError: no"),
    ],
)
def test_the_last_attempt_of_a_job_stands_beside(outcome: str, code: str, summary: str) -> None:
    explanation = explain(situation(job(attempt=2, dispatch_seq=2, last=attempt(outcome, "ValueError: no"))))
    assert [(fact.reason, fact.summary) for fact in explanation.beside] == [(code, summary)]


RUNS: dict[str, Any] = {
    "started_at": ago(10),
    "worker_id": "w1",
    "attempt": 2,
    "lease": NOW + timedelta(seconds=12),
}


def running(**more: Any) -> JobSnapshot:
    return job(JobStatus.RUNNING, **(RUNS | more))


def test_a_running_job_shows_its_progress_and_the_end_of_its_time() -> None:
    explanation = explain(situation(running(timeout=40.0, progress=Progress(2, 0.5, "half"))))
    assert explanation.summary == "It has been running on w1 for 10 s, as attempt 2."
    assert [fact.summary for fact in explanation.beside] == [
        "It says that it is at 50 %: half.",
        "Its time is over at 2026-01-31T12:00:30Z, in 30 s.",
    ]
    assert explanation.detail.lease_until == RUNS["lease"]
    # The progress of an earlier attempt is not that of this one.
    assert codes(explain(situation(running(progress=Progress(1, 0.5))))) == ["running"]


def test_a_worker_that_has_missed_half_its_lease_is_silent() -> None:
    explanation = explain(situation(running(lease=NOW + timedelta(seconds=7))))
    assert codes(explanation) == ["worker_silent", "running"]
    assert "its lease runs out at 2026-01-31T12:00:07Z" in explanation.summary
    explanation = explain(situation(running(lease=ago(3)), **UNLED))
    assert codes(explanation) == ["worker_silent", "running", "no_leader"]
    assert "its lease ran out at 2026-01-31T11:59:57Z" in explanation.summary
    assert explain(situation(running(ended_at=ago(1)))).reason == "worker_silent"
    assert "no_leader" not in codes(explain(situation(running(), **UNLED)))


@pytest.mark.parametrize(
    ("holder", "named"),
    [
        (Holder(job_id=4, attempt=1, worker_id="w2"), "job 4 (attempt 1, on w2)"),
        (Holder(worker_id="w2"), "another job on w2"),
        (Holder(host="box", pid=9), "process 9 on box"),
    ],
)
def test_a_job_that_waits_for_a_lock_names_the_holder(holder: Holder, named: str) -> None:
    explanation = explain(situation(running(), lock="printer", holder=holder))
    assert explanation.summary == f"It waits for the lock printer, which {named} holds."
    assert codes(explanation) == ["lock_held", "running"]


@pytest.mark.parametrize(
    ("more", "cause"),
    [
        ({"outcome": "failed", "failures": 4}, "after failing 4 times: ValueError: no"),
        ({"outcome": "failed", "failures": 1}, "since attempt 2 said that trying again is of no use: ValueError: no"),
        ({"outcome": "crashed", "crashes": 3}, "after crashing its executor 3 times: ValueError: no"),
        ({"outcome": "lost", "losses": 20}, "after losing its worker 20 times: ValueError: no"),
    ],
)
def test_the_cause_of_a_final_failure_is_named(more: dict[str, Any], cause: str) -> None:
    ended = job(JobStatus.FAILED, completed_at=ago(60), worker_id="w1", attempt=2, error="ValueError: no\nx", **more)
    explanation = explain(situation(ended))
    assert explanation.summary == f"It failed for good at 2026-01-31T11:59:00Z, {cause}"


def test_the_other_ends() -> None:
    fields: dict[str, Any] = {"completed_at": ago(60), "worker_id": "w1", "attempt": 2}
    completed = explain(situation(job(JobStatus.COMPLETED, outcome="completed", **fields)))
    assert completed.summary == "It completed at 2026-01-31T11:59:00Z, as attempt 2 on w1."
    stopped = job(JobStatus.CANCELLED, outcome="cancelled", **fields)
    assert explain(situation(stopped)).summary.endswith("as attempt 2 ran on w1.")
    assert explain(situation(stopped, stopping=True)).reason == "stopping"
    never = job(JobStatus.CANCELLED, completed_at=ago(60), retried_as=99)
    assert explain(situation(never)).summary.endswith("before it ever ran.")
    assert [fact.summary for fact in explain(situation(never)).beside] == ["It was retried as job 99."]
    assert "as it waited after attempt 1" in explain(situation(job(JobStatus.CANCELLED, attempt=1))).summary


def test_every_reason_has_its_row_on_the_page() -> None:
    text = PAGE.read_text("utf-8")
    for title, table in (("reason", REASONS), ("beside", FACTS)):
        start = text.index(f"| {title} | sentence | what to do |")
        rows = text[start:].split("\n\n", 1)[0].splitlines()[2:]
        assert [tuple(cell.strip() for cell in row.strip("|").split(" | ")) for row in rows] == [
            (f"`{entry.code}`", entry.sentence, entry.advice) for entry in table
        ]


@pytest.mark.parametrize("status", JobStatus)
def test_every_combination_of_reasons_has_an_explanation(status: JobStatus) -> None:
    parts: list[dict[str, Any]] = [QUEUE_PAUSED, UNLED, REDIS, UNSERVED, QUIET, UNKNOWN, FULL, {"etcd": AWAY}]
    claimed = {} if status in (JobStatus.PENDING, JobStatus.QUEUED) else RUNS
    subjects = (
        job(status, **claimed),
        job(status, **claimed | {"schedule_at": NOW + timedelta(seconds=9), "last": attempt("snoozed")}),
    )
    places = (
        (None, EntryLocation(gone=True), EntryLocation(worker_id="w1"), EntryLocation())
        if status is JobStatus.QUEUED
        else (None,)
    )
    reasons, facts = {reason.code for reason in REASONS}, {entry.code for entry in (*REASONS, *FACTS)}
    for subject, place, held in product(subjects, places, range(2 ** len(parts))):
        more: dict[str, Any] = {}
        for number, part in enumerate(parts):
            more |= part if held >> number & 1 else {}
        explanation = explain(situation(subject, place=place, **more))
        shown = codes(explanation)
        assert (explanation.reason in reasons, set(shown) <= facts, len(set(shown)) == len(shown)) == (True, True, True)
        assert "None" not in explanation.summary
        msgspec.json.encode(explanation)


def test_every_reason_is_shown_by_a_real_cluster() -> None:
    golden = (Path(__file__).parents[1] / "e2e" / "test_explain.py").read_text("utf-8")
    shown = set(re.findall(r"^        job #\w+ [a-z]+ \((\w+)\)$", golden, re.MULTILINE))
    assert shown == {reason.code for reason in REASONS}


def test_sentences_and_codes_look_alike() -> None:
    entries = [*REASONS, *FACTS]
    assert len({entry.code for entry in entries}) == len(entries)
    for entry in entries:
        assert re.fullmatch(r"[a-z_]+", entry.code)
        assert entry.sentence.endswith((".", "{error}"))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "0 s"), (0.04, "0 s"), (9.94, "9.9 s"), (59.6, "1 min"), (61, "1 min 1 s"), (3600, "1 h")),
        *((3661, "1 h 1 min"), (90_000, "1 d 1 h"), (-3, "0 s")),
    ],
)
def test_durations_are_two_units_at_the_most(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_an_error_comes_down_to_its_last_line() -> None:
    assert main_line(None) == "it left no error"
    assert main_line("Traceback\n  x\nValueError: no\n\n") == "ValueError: no"
    assert main_line('  File "x.py", line 1\n    (\n    ^\nSyntaxError: never closed') == "SyntaxError: never closed"
    assert main_line("ValidationError: 2 errors for X\na\n  For further information visit https://x") == (
        "ValidationError: 2 errors for X"
    )
    assert len(main_line("x" * 1000)) == 301
