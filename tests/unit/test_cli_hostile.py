"""Tests of every view of the command line on a terminal, with a scheduler whose texts all try to steer it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.text import Text

from taskd.cli import output, tables
from taskd.cli.main import run
from taskd.dev import screen
from taskd.domain.diagnosis import Diagnosis
from taskd.runtime import log
from taskd.settings import LogSettings
from tests.unit.hostile import HOSTILE, OWN, Scheduler, hostile_scheduler, look, terminal
from tests.unit.test_terminal import steering

VIEWS = [
    "list",
    "status",
    "status 1",
    "status 1 --full",
    "explain 1",
    "logs 1",
    "submit 1",
    "submit 1 --wait 0",
    "cancel 1",
    "retry 1",
    "config list",
    "config get k",
    "config get other",
    "config set k 1",
    "config unset k",
    "config history",
    "config rollback 1",
    "schedule list",
    "schedule show n",
    "schedule next n",
    "schedule add n 1 --every 1m",
    "schedule pause n",
    "schedule resume n",
    "schedule rm n",
    "worker quiet w",
    "worker resume w",
    "worker drain w",
    "history export",
]
#: Views but those that send a text back: a lone surrogate cannot be sent.
DOCUMENTS = [view for view in VIEWS if view not in ("history export", "submit 1 --wait 0", "worker drain w")]


@pytest.fixture(scope="module")
def scheduler() -> Iterator[Scheduler]:
    """The hostile scheduler."""
    with hostile_scheduler() as server:
        yield server


@pytest.mark.parametrize("refuses", [False, True])
@pytest.mark.parametrize("view", VIEWS)
def test_no_view_lets_text_steer_the_terminal(
    view: str, refuses: bool, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler.text, scheduler.refuses = HOSTILE, refuses
    written = "".join(look(scheduler, view.split(), monkeypatch))
    assert written
    if view in {"list", "status", "status 1", "explain 1", "logs 1", "config history", "schedule list", "submit 1"}:
        assert r"\x1b" in written


@pytest.mark.parametrize("view", DOCUMENTS)
def test_json_on_a_terminal_is_harmless_and_says_the_same(
    view: str, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler.text, scheduler.refuses = HOSTILE, False
    out, _ = look(scheduler, [*view.split(), "--json"], monkeypatch)
    assert steering(out) == []
    json.loads(out)
    if view == "status 1":
        assert json.loads(out) == scheduler.document("GET", "/jobs/1")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    view=st.sampled_from(VIEWS), text=st.text(st.characters(exclude_categories=()), max_size=40), refuses=st.booleans()
)
def test_no_text_at_all_steers_the_terminal(
    view: str, text: str, refuses: bool, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler.text, scheduler.refuses = text, refuses
    look(scheduler, view.split(), monkeypatch)


def test_views_of_other_origins_are_harmless_too(monkeypatch: pytest.MonkeyPatch) -> None:
    token = {"id": HOSTILE, "name": HOSTILE, "holds": True, "scopes": [HOSTILE], "queues": [HOSTILE], "rate": HOSTILE}
    token |= {"created_at": HOSTILE, "created_by": HOSTILE, "expires_at": HOSTILE, "revoked_at": HOSTILE}
    with terminal(monkeypatch) as (out, _):
        output.show(tables.tokens([token]))
        output.show(tables.findings([Diagnosis(level="wrong", subject=HOSTILE, text=HOSTILE, advice=HOSTILE)]))
        screen.say(screen.console(), HOSTILE, HOSTILE)
        screen.console().print(f"[red]{HOSTILE}", Text(HOSTILE))
    assert steering(OWN.sub("", out.getvalue())) == []
    assert r"\x1b[2J" in out.getvalue()


def test_a_line_of_the_dev_console_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as (out, _):
        screen.say(screen.console(), "worker-1", "a\nb")
    assert OWN.sub("", out.getvalue()) == "    worker-1  a\\nb\n"


def test_a_log_in_text_is_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    configured = structlog.get_config()
    with terminal(monkeypatch) as (_, err):
        log.configure(LogSettings(format="TEXT"))
        try:
            error = ValueError(HOSTILE)
            log.logger().error(HOSTILE, **{HOSTILE: HOSTILE}, number=1, listed=[HOSTILE], exc_info=error)
        finally:
            structlog.configure(**configured)
    assert steering(OWN.sub("", err.getvalue())) == []
    assert r"\x1b[2J" in err.getvalue()


def test_a_task_that_is_run_here_may_fail_with_any_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hostile_app.py").write_text(
        f"import taskd\napp = taskd.App()\n@app.task\ndef bad():\n    raise ValueError({HOSTILE!r})\n", "utf-8"
    )
    monkeypatch.chdir(tmp_path)
    configured = structlog.get_config()
    try:
        with terminal(monkeypatch) as (out, err):
            assert run(["run", "bad", "--app", "hostile_app"]) == 1
    finally:
        structlog.configure(**configured)
    assert steering(OWN.sub("", out.getvalue() + err.getvalue())) == []
