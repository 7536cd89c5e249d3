"""Tests of credit: how many jobs may lie in Redis."""

from __future__ import annotations

import pytest

from taskd.domain.band import BANDS, Band, Credit, band_of
from taskd.scheduler.credit import Creditor

URGENT, ORDINARY = BANDS[0], BANDS[-1]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("taskd.scheduler.credit.time.monotonic", lambda: now[0])
    return now


def depths(**filled: int) -> dict[tuple[str, Band], int]:
    return {("q", band): filled.get(f"p{band.low}", 0) for band in BANDS}


def test_an_empty_queue_gets_credit_for_the_live_slots(clock: list[float]) -> None:
    credits_ = Creditor(seconds=0.2, most=1000).credits({"q": 8}, depths())
    assert {credit.band: credit.jobs for credit in credits_} == dict.fromkeys(BANDS, 8)


def test_a_full_queue_gets_none(clock: list[float]) -> None:
    assert Creditor(seconds=0.2, most=1000).credits({"q": 8}, depths(p75=8)) == []


def test_ordinary_jobs_never_use_up_the_credit_of_urgent_ones(clock: list[float]) -> None:
    credits_ = Creditor(seconds=0.2, most=1000).credits({"q": 8}, depths(p0=50))
    assert Credit("q", URGENT, 8) in credits_
    assert not any(credit.band == ORDINARY for credit in credits_)


def test_credit_follows_what_the_fleet_drains(clock: list[float]) -> None:
    creditor = Creditor(seconds=0.2, most=10_000)
    creditor.credits({"q": 8}, depths())
    for _ in range(40):  # 1,000 jobs a second for four seconds
        creditor.announced("q", 100)
        clock[0] += 0.1
        credits_ = creditor.credits({"q": 8}, depths())
    assert credits_[0].jobs == pytest.approx(200, rel=0.1)


def test_one_statement_never_gets_more_than_a_batch(clock: list[float]) -> None:
    assert {credit.jobs for credit in Creditor(seconds=0.2, most=10).credits({"q": 500}, depths())} == {10}


def test_every_priority_has_one_band() -> None:
    assert [band_of(p).low for p in (0, 24, 25, 49, 50, 74, 75, 100)] == [0, 0, 25, 25, 50, 50, 75, 75]
