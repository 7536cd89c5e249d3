"""Tests of the benchmark's report: limits beside figures, what became slower, and the four places of the committed run."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from bench.ceilings import CEILINGS, COMMITS, HTTP, INSERT, LIFE, higher_is_better, limit_share
from bench.chart import picture
from bench.comparison import noise, slower, uncompared
from bench.report import markdown, sections, short, show
from bench.targets import TARGETS, below, holds, ratios, unmeasured
from rich.console import Console

ROOT = Path(__file__).parents[2]
LAST = json.loads((ROOT / "bench/last.json").read_text())

LIMITS = {INSERT: 300_000.0, LIFE: 60_000.0, COMMITS: 4000.0, f"{HTTP}, requests/s": 30_000.0}
E2E, P50, MEMORY = "end to end, jobs/s", "idle, submit to start p50, ms", "memory, worker, MB"


def run(figures: dict[str, list[float]], limits: dict[str, float] = LIMITS) -> dict[str, Any]:
    """Return the document of a run with these figures, one for each pass."""
    middle = {name: sorted(passes)[len(passes) // 2] for name, passes in figures.items()}
    return {
        "machine": {"at": "noon"},
        "limits": limits,
        "figures": middle,
        "passes": figures,
        "ratios": {},
        "contest": {"taskd": {E2E: figures.get(E2E, [15_000.0]), P50: [3.0, 4.0, 5.0]}},
        "notes": {"taskd": "one worker"},
    }


def test_the_page_and_the_picture_are_those_of_the_committed_run() -> None:
    assert (ROOT / "docs/measured.md").read_text() == markdown(LAST)
    assert (ROOT / "docs/images/bench.svg").read_text() == picture(LAST["contest"])


def test_the_readme_has_the_table_of_the_committed_run() -> None:
    assert short(LAST) in (ROOT / "README.md").read_text()


def test_a_rate_is_compared_with_the_same_rate_of_the_servers() -> None:
    ceiling = limit_share(E2E, 15_000, LIMITS)
    assert ceiling is not None
    assert (ceiling.limit, ceiling.share) == (60_000, 0.25)


def test_a_time_is_compared_with_the_time_of_its_commits() -> None:
    ceiling = limit_share("idle, submit to done p50, ms", 3.0, LIMITS)
    assert ceiling is not None
    assert (ceiling.name, ceiling.limit, ceiling.share) == ("three commits", 0.75, 0.25)


def test_a_drain_is_compared_with_a_life_without_its_insert() -> None:
    ceiling = limit_share("drain, jobs/s", 37_500, LIMITS)
    assert ceiling is not None
    assert ceiling.limit == pytest.approx(75_000)
    assert ceiling.share == pytest.approx(0.5)


def test_a_figure_without_a_measured_limit_stands_alone() -> None:
    assert limit_share(MEMORY, 90, LIMITS) is None
    assert limit_share("POST /jobs, 100 connections, p99, ms", 8, LIMITS) is None


def test_every_committed_rate_has_a_limit_beside_it() -> None:
    rates = {name for name in (*LAST["figures"], *LAST["contest"]["taskd"]) if name.endswith("jobs/s")}
    assert rates - {"drain, noop, jobs/s"} <= set(CEILINGS)


@pytest.mark.parametrize(
    ("name", "better"),
    [
        (E2E, True),
        ("end to end, of pgqueuer's", True),
        ("2 workers, of 2 times one", True),
        (P50, False),
        (MEMORY, False),
        ("idle, statements/s", False),
        ("1,000 idle workers, scheduler + PostgreSQL + etcd, % of a core", False),
    ],
)
def test_more_is_better_of_rates_and_ratios_only(name: str, better: bool) -> None:
    assert higher_is_better(name) is better


def test_a_target_without_a_figure_is_shown_with_the_command_that_measures_it() -> None:
    document = run({E2E: [15_000.0]})
    rows = {row[0]: row for row in sections(document)[1].rows}
    assert rows[E2E][1:] == ["15,000", "60,000 (insert and three updates)", "25%", ">= 6000", "met"]
    assert rows["full tables, of the empty tables' rate"][-1].startswith("not measured: make bench without")
    assert set(rows) == set(TARGETS)


def test_only_a_measured_figure_can_be_below_its_floor() -> None:
    assert below({E2E: 5999.0}) == [E2E]
    assert below({E2E: 6000.0}) == []
    assert E2E not in unmeasured({E2E: 1.0})
    assert holds(1.0, "")


def test_the_terminal_has_ranges_and_notes_as_the_page_has() -> None:
    console = Console(width=250, record=True, file=StringIO())
    document = run({E2E: [14_000.0, 15_000.0, 16_000.0]})
    show(document, console)
    shown = console.export_text()
    for text in (shown, markdown(document)):
        assert "15,000 (14,000 to 16,000)" in text
        assert "taskd: one worker" in text
        assert "not measured" in text


def test_a_rate_that_fell_is_reported_and_a_slower_machine_is_not() -> None:
    then = run({E2E: [16_000.0, 15_000.0, 14_000.0]})
    slow = {name: rate / 2 for name, rate in LIMITS.items()}
    assert slower(run({E2E: [7_500.0]}, slow) | {"contest": then["contest"]}, then | {"contest": {"taskd": {}}}) == []
    (line,) = slower(run({E2E: [7_500.0]}), then)
    assert line.startswith(f"{E2E}: 7,500, was 15,000: 12% of its limit (insert and three updates), was 25%")


def test_a_time_or_a_cost_that_rose_is_reported() -> None:
    then = run({MEMORY: [80.0, 81.0, 82.0], "dispatch lag of a delayed job p50, ms": [2.0]})
    (line,) = slower(run({MEMORY: [120.0], "dispatch lag of a delayed job p50, ms": [2.5]}), then)
    assert line.startswith(f"{MEMORY}: 120, was 81.0: 1.48 times it")
    assert slower(run({MEMORY: [50.0]}), then) == []


def test_a_figure_that_must_be_zero_is_reported_when_it_is_not() -> None:
    lost = "under 200 clients, terms lost"
    assert slower(run({lost: [0.0]}), run({lost: [0.0]})) == []
    assert len(slower(run({lost: [1.0]}), run({lost: [0.0]}))) == 1


def test_a_figure_may_change_as_much_as_its_passes_did() -> None:
    assert noise([10.0, 20.0]) == pytest.approx(2.2)
    assert noise([10.0, 10.0]) == 1.25
    assert noise([10.0]) == 1.5
    then = run({MEMORY: [50.0, 80.0, 100.0]})
    assert slower(run({MEMORY: [170.0]}), then) == []


def test_a_figure_that_only_the_other_run_has_is_named() -> None:
    assert uncompared(run({E2E: [1.0]}), run({E2E: [1.0], MEMORY: [1.0]})) == [MEMORY]


def test_ratios_are_of_the_same_pass() -> None:
    ours = {E2E: [10.0, 20.0], "drain, jobs/s": [8.0, 8.0]}
    theirs = {E2E: [5.0, 5.0], "drain, jobs/s": [4.0, 2.0]}
    assert ratios({"taskd": ours, "celery": theirs}, [4.0, 4.0]) == {
        "end to end, of celery's": [2.0, 4.0],
        "drain, of celery's": [2.0, 4.0],
        "drain, plain, of celery's": [1.0, 2.0],
    }
