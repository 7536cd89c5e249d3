"""Tests of the invariants I1 to I4, I10 and I12: violations by single jobs are found, and correct jobs are not named."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from taskd.domain.policy import Backoff
from taskd.torture.history import JobRow
from tests.unit.histories import START, HistoryBuilder


@pytest.fixture
def history() -> HistoryBuilder:
    history = HistoryBuilder()
    history.whole(0.0, 1)
    return history


def without(job: int) -> Any:
    return lambda rows: [row for row in rows if row.id != job]


def changed(**fields: Any) -> Any:
    def change(rows: list[JobRow]) -> list[JobRow]:
        return [msgspec.structs.replace(row, **fields) if row.id == 1 else row for row in rows]

    return change


# ---------------------------------------------------------------- I1, I10


def test_i1_an_accepted_job_that_never_was(history: HistoryBuilder) -> None:
    history.step(1.0, "invoke", key="gone")
    history.step(1.1, "ok", key="gone", id=77)
    assert history.broken() == {("I1", 77)}


def test_i1_an_accepted_job_that_is_gone_with_its_row(history: HistoryBuilder) -> None:
    assert history.broken(without(1)) == {("I1", 1), ("I2", 1)}


def test_i1_a_key_that_was_accepted_twice_as_two_jobs(history: HistoryBuilder) -> None:
    history.store(1.0, 2, dedupe_key="other")
    history.step(1.1, "ok", key="k1", id=2)
    assert history.broken() == {("I1", 1), ("I1", 2)}


def test_i1_i10_an_unknown_answer_behind_which_two_jobs_hide(history: HistoryBuilder) -> None:
    history.step(1.0, "invoke", key="k")
    history.step(1.5, "unknown", key="k", reason="timeout")
    history.store(1.1, 2, dedupe_key="k")
    assert history.broken() == set()
    history.store(1.2, 3, dedupe_key="k")
    assert history.broken() == {("I1", 2), ("I10", 2)}


def test_i1_a_job_that_was_refused_and_stored(history: HistoryBuilder) -> None:
    history.step(1.0, "invoke", key="k2")
    history.step(1.1, "fail", key="k2", status=503)
    history.store(1.05, 2)
    assert history.broken() == {("I1", 2)}


def test_i1_a_refusal_after_an_unknown_answer_proves_nothing(history: HistoryBuilder) -> None:
    history.step(1.0, "invoke", key="k2")
    history.step(1.1, "unknown", key="k2")
    history.step(1.2, "invoke", key="k2")
    history.step(1.3, "fail", key="k2", status=503)
    history.store(1.05, 2)
    assert history.broken() == set()


def test_i10_two_jobs_of_one_key_are_found_without_any_client() -> None:
    history = HistoryBuilder()
    history.store(0.0, 1, dedupe_key="k")
    history.store(0.0, 2, dedupe_key="k")
    history.store(0.0, 3, dedupe_key=None)
    history.store(0.0, 4, dedupe_key=None)
    assert history.broken() == {("I10", 1)}


# ---------------------------------------------------------------- I2, I3, I4


def test_i2_a_version_that_is_missing(history: HistoryBuilder) -> None:
    del history.events[1]
    assert ("I2", 1) in history.broken()


def test_i2_a_move_from_where_the_job_was_not() -> None:
    history = HistoryBuilder()
    history.submit(0.0, 1)
    history.claim(0.2, 1, from_status="queued")  # legal in itself
    assert history.broken() == {("I2", 1)}


def test_i2_a_move_that_is_not_legal() -> None:
    history = HistoryBuilder()
    history.submit(0.0, 1)
    history.move(0.1, 1, "running", attempt=1, worker_id="w1", session_id="s1", by="taskd:claim:w1")
    assert ("I2", 1) in history.broken()


def test_i2_a_job_that_vanished_without_a_final_status() -> None:
    history = HistoryBuilder()
    history.submit(0.0, 1)
    history.move(0.1, 1, "lost", by="psql")
    assert ("I2", 1) in history.broken(without(1))


def test_i2_a_row_that_differs_from_its_events(history: HistoryBuilder) -> None:
    assert history.broken(changed(status="failed")) == {("I2", 1)}
    assert history.broken(changed(attempt=2)) == {("I2", 1)}


def test_i2_a_job_without_events(history: HistoryBuilder) -> None:
    extra = JobRow(
        id=2, status="pending", task="work", queue="q", priority=0, attempt=0, schedule_at=START, created_at=START
    )
    assert history.broken(lambda rows: [*rows, extra]) == {("I2", 2)}


def test_i3_a_move_after_a_final_status(history: HistoryBuilder) -> None:
    history.move(2.0, 1, "completed", by="taskd:settle:w2")
    assert ("I3", 1) in history.broken()


def test_i3_a_job_that_is_there_twice(history: HistoryBuilder) -> None:
    assert history.broken(lambda rows: [*rows, *rows]) == {("I3", 1)}


def test_i4_a_claim_that_skips_an_attempt() -> None:
    history = HistoryBuilder()
    history.submit(0.0, 1)
    history.dispatch(0.1, 1)
    history.claim(0.2, 1, attempt=2)
    assert history.broken() == {("I4", 1)}


def test_i4_a_reap_that_raises_the_attempt() -> None:
    history = HistoryBuilder()
    history.submit(0.0, 1)
    history.dispatch(0.1, 1)
    history.open(-10.0, "s2", "w2")
    history.claim(0.2, 1, session="s2", worker="w2")
    history.end(6.0, "s2", "w2")
    history.move(6.1, 1, "pending", by="taskd:leader:L1", losses=1)
    assert history.broken() == set()
    history.dispatch(6.2, 1, attempt=2)
    assert history.broken() == {("I4", 1)}


# ---------------------------------------------------------------- I12


def test_i12_more_of_anything_than_is_allowed(history: HistoryBuilder) -> None:
    assert history.broken(changed(failures=4, max_retries=3)) == set()
    assert history.broken(changed(failures=5, max_retries=3)) == {("I12", 1)}
    assert history.broken(changed(crashes=4)) == {("I12", 1)}
    assert history.broken(changed(losses=5)) == set()
    assert history.broken(changed(losses=6)) == {("I12", 1)}


@pytest.mark.parametrize(
    ("counter", "before", "backoff", "waited", "broken"),
    [
        ("failures", 0, Backoff(2.0, 2.0, 60.0, jitter=False), 2.0, False),
        ("failures", 0, Backoff(2.0, 2.0, 60.0, jitter=False), 1.9, True),
        ("failures", 0, Backoff(2.0, 2.0, 60.0, jitter=True), 1.0, False),
        ("failures", 0, Backoff(2.0, 2.0, 60.0, jitter=True), 0.9, True),
        ("failures", 2, Backoff(2.0, 2.0, 60.0, jitter=False), 8.0, False),
        ("failures", 2, Backoff(2.0, 2.0, 60.0, jitter=False), 7.9, True),
        ("failures", 2, Backoff(2.0, 2.0, 5.0, jitter=False), 5.0, False),
        ("crashes", 0, Backoff(2.0, 2.0, 60.0, jitter=False), 1.9, True),
        ("losses", 0, Backoff(2.0, 2.0, 60.0, jitter=False), 0.0, False),
    ],
)
def test_i12_a_retry_waits_for_its_backoff(
    counter: str, before: int, backoff: Backoff, waited: float, broken: bool
) -> None:
    history = HistoryBuilder()
    fields: dict[str, Any] = {counter: before + 1, "schedule_at": START + 0.6 + waited}
    history.submit(0.0, 1, **{counter: before})
    history.limits[1] = {"backoff": backoff, "max_retries": 9}
    history.dispatch(0.1, 1)
    history.claim(0.2, 1)
    history.settle(0.7, 1, "pending", began=0.6, **fields)
    assert history.broken() == ({("I12", 1)} if broken else set())
