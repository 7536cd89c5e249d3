"""Tests of the legal moves, and of the page that shows them."""

from __future__ import annotations

from pathlib import Path

from taskd.domain.job import FINAL, JobStatus
from taskd.domain.lifecycle import EDGES, TRANSITIONS, legal

PAGE = Path(__file__).parents[2] / "docs" / "invariants.md"


def test_nothing_follows_a_final_status() -> None:
    assert not any(source in FINAL for source, _ in EDGES)


def test_every_status_can_be_reached_and_every_live_one_left() -> None:
    assert {target for _, target in EDGES} == set(JobStatus)
    assert {source for source, _ in EDGES if source} == set(JobStatus) - FINAL


def test_a_job_is_never_claimed_without_a_dispatch() -> None:
    assert not legal(JobStatus.PENDING, JobStatus.RUNNING)
    assert legal(JobStatus.QUEUED, JobStatus.RUNNING)


def test_the_page_shows_the_same_table() -> None:
    rows = {tuple(cell.strip() for cell in line.strip("|").split("|")) for line in PAGE.read_text().splitlines()}
    for move in TRANSITIONS:
        assert (move.name, move.source or "(none)", move.target.value, move.by) in rows
