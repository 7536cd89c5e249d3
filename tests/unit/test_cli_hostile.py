"""Every view of the command line, on a terminal, of a scheduler whose texts all try to steer it."""

from __future__ import annotations

import io
import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.text import Text

from taskd.cli import output, tables
from taskd.cli.main import run
from taskd.dev import screen
from taskd.domain.finding import Finding
from taskd.runtime import log
from taskd.settings import Log
from tests.unit.test_terminal import steering

HOSTILE = (
    "\x1b]0;x\x07\x1b[2J\x1b[38;5;123m \x9b31m \x7f \u202eevil\u2066 \u200b\ufeff \U000e0041 \u2028 \ud800 "
    "[red]red[/] [link=http://x]link[/link] [/] :warning: \r\nnew\tline"
)
AT = "2026-01-31T12:00:00Z"
#: What rich writes itself: colours, the alternate screen, the cursor.
OWN = re.compile(r"\x1b\[(?:[0-9;]*m|\?1049[hl]|\?25[hl]|H|2K|\d*A)|\r")


class Scheduler:
    """A server that answers each request with documents full of `text`, or with refusals full of it."""

    def __init__(self) -> None:
        self.text = HOSTILE
        self.refuses = False
        self.url = ""

    def document(self, method: str, path: str) -> Any:
        """The answer to one request."""
        t = self.text
        job = {"id": t, "status": t, "task": t, "queue": t, "priority": t, "attempt": t, "created_at": t, "error": t}
        stage = {"since": t, "state": t, "seconds": 1.5, "why": t, "attempt": t}
        attempt = {"attempt": t, "worker_id": t, "outcome": t, "error": t, "traceback": t}
        whole: dict[str, Any] = {
            **job,
            t: t,
            "worker_id": t,
            "payload": {t: t},
            "result": t,
            "metadata": {t: t},
            "queued_at": t,
        }
        whole |= {"progress": {"fraction": 0.5, "message": t, "attempt": t}, "timeline": [stage], "attempts": [attempt]}
        version = {"version": t, "at": t, "who": t, "what": t}
        fire = {"fire_at": t, "fired_at": t, "state": t, "job_id": t}
        schedule: dict[str, Any] = {
            "name": t,
            "cron": t,
            "tz": t,
            "next_at": t,
            "missed": t,
            "overlap": t,
            "app": t,
            "paused_by": t,
        }
        schedule |= {"job": {"task": t, "queue": t, "payload": t, t: t}, "fires": [fire], "changed_at": t}
        member = {
            "id": t,
            "address": t,
            "host": t,
            "pid": t,
            "started_at": t,
            "slots": t,
            "queues": [t],
            "incarnation": t,
        }
        counts = {f"{n}_jobs": t for n in ("pending", "queued", "running", "completed", "failed", "cancelled")}
        known = {
            "/jobs": [whole] if method == "GET" else job,
            "/jobs/1": whole,
            "/jobs/1/cancel": job,
            "/jobs/1/retry": {**job, "parent_id": t, "duplicate": True},
            "/jobs/1/explain": {
                "id": t,
                "status": t,
                "reason": t,
                "summary": t,
                "estimate": {"seconds": 3.0, "basis": t},
                "advice": t,
                "beside": [{"summary": t}],
                "detail": {"longest": [{"id": t, "task": t, "queue": t, "worker_id": t, "started_at": AT}]},
                "seen_by": t,
                "at": AT,
            },
            "/jobs/1/logs": {
                "id": t,
                "status": "failed",
                "attempts": 2,
                "more": False,
                "cursor": "1",
                "lines": [
                    {"attempt": 1, "at": t, "source": t, "text": t},
                    {"attempt": 2, "at": t, "level": t, "source": t, "text": t},
                ],
            },
            "/health": {"status": t, "instance_id": t, "components": {t: {"ok": False, "detail": t}}},
            "/leader": {"current_leader": t, "epoch": t, "shards": [{"shard": t, "current_leader": t}]},
            "/schedulers": {"schedulers": [member], "note": t},
            "/workers": {"workers": [member, {**member, "id": "w"}], "note": t},
            "/queues": {"queues": [dict.fromkeys(("queue", "pending", "queued", "running", "workers", "slots"), t)]},
            "/metrics": counts,
            "/config": {**version, "version": 1, "values": {t: t, "k": t}, "keys": [{"key": t, "meaning": t}]},
            "/config/history": [version],
            "/schedules": [schedule] if method == "GET" else schedule,
            "/schedules/n/next": {"fires": [t], "paused": True},
        }
        if path in known:
            return known[path]
        rest = {"/config/": version, "/jobs/": whole}
        return next((found for start, found in rest.items() if path.startswith(start)), schedule)


@pytest.fixture(scope="module")
def scheduler() -> Iterator[Scheduler]:
    """The server; `scheduler.url` is where it listens."""
    hostile = Scheduler()

    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = self.path.partition("?")[0]
            document = hostile.document(self.command, path)
            status = 200
            if hostile.refuses:
                status, document = 409, {"title": hostile.text, "detail": hostile.text, "job_status": hostile.text}
            # As raw as JSON can be: only what it forbids, and surrogates, are escapes.
            body = json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = _reply

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    hostile.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield hostile
    server.shutdown()
    thread.join()
    server.server_close()


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Terminal, Terminal]]:
    """Standard output and error as terminals of 80 columns."""
    with monkeypatch.context() as patch:
        out, err = Terminal(), Terminal()
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        patch.setenv("COLUMNS", "80")
        patch.setenv("LINES", "24")
        patch.setenv("TERM", "xterm-256color")
        yield out, err


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
#: Without those that send a text back, which half a character in it prevents.
DOCUMENTS = [view for view in VIEWS if view not in ("history export", "submit 1 --wait 0", "worker drain w")]


def look(scheduler: Scheduler, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """What one command writes on a terminal. It must do so without a bug and without steering."""
    monkeypatch.setenv("TASKD_SERVER", scheduler.url)
    with terminal(monkeypatch) as (out, err):
        run(arguments)
    written = out.getvalue() + err.getvalue()
    assert "(a bug" not in written
    assert steering(OWN.sub("", written)) == []
    assert "38;5;123m" not in written.replace(r"\x1b[38;5;123m", "").replace(r"\u001b[38;5;123m", "")
    assert "]8;" not in written, "a link of the terminal"
    return out.getvalue(), err.getvalue()


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
        output.show(tables.findings([Finding(level="wrong", subject=HOSTILE, text=HOSTILE, mend=HOSTILE)]))
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
        log.configure(Log(format="TEXT"))
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


# ---------------------------------------------------------------- 80 columns

LONG = "ConnectionError: the bank does not answer, " * 60
JOB = {
    "id": 123456,
    "status": "completed",
    "task": "thumbnails.resize",
    "queue": "images-of-the-shop",
    "priority": 10,
    "attempt": 3,
    "created_at": "2026-11-23T13:28:54.823243Z",
    "error": f"Traceback\n  File\n{LONG}",
}
SCHEDULE = {
    "name": "nightly-report",
    "cron": "*/5 3 * * mon-fri",
    "tz": "America/Argentina/Buenos_Aires",
    "next_at": "2026-11-23T13:30:00Z",
    "missed": "once",
    "overlap": "allow",
    "app": "shop.tasks",
    "job": {"task": "shop.report", "queue": "default"},
}


def _lines(view: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, columns: int = 80) -> list[str]:
    with terminal(monkeypatch) as (out, _):
        monkeypatch.setenv("COLUMNS", str(columns))
        output.show(view())
    return OWN.sub("", out.getvalue()).splitlines()


@pytest.mark.parametrize("columns", [40, 80, 100, 250])
def test_a_job_is_one_line_that_fits(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _lines(lambda: tables.jobs([JOB, JOB]), monkeypatch, columns)
    assert len(lines) == 4
    assert all(len(line) <= columns for line in lines)
    assert "123456" in lines[2]
    assert lines[2].endswith("…")
    if columns >= 80:
        assert re.search(r"2026-11-23 \d\d:28:54", lines[2])
        assert "ConnectionError" in lines[2]
    if columns == 250:
        assert "images-of-the-shop" in lines[2]


def test_a_schedule_is_one_line_of_whole_words(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _lines(lambda: tables.schedules([SCHEDULE]), monkeypatch)
    assert len(lines) == 3
    assert max(map(len, lines)) <= 80
    assert lines[2].startswith("nightly-report  */5 3 * * mon…  America/")
    assert re.search(r"2026-11-23 \d\d:30:00", lines[2])


def test_a_pipe_gets_every_column_and_no_cut(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output.show(tables.jobs([JOB]))
    output.show(tables.schedules([SCHEDULE]))
    text = capsys.readouterr().out
    assert LONG.strip() in text
    assert "America/Argentina/Buenos_Aires" in text
    assert "shop.tasks" in text
    assert "…" not in text


def test_json_in_another_encoding_has_the_same_value(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler.text, scheduler.refuses = "é ž … 😀 ─", False
    monkeypatch.setattr(Terminal, "encoding", "latin-1")
    out, _ = look(scheduler, ["status", "1", "--json"], monkeypatch)
    assert out.isascii()
    assert json.loads(out) == scheduler.document("GET", "/jobs/1")


def test_a_table_in_another_encoding_keeps_its_width(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Terminal, "encoding", "ascii")
    lines = _lines(lambda: tables.jobs([JOB]), monkeypatch)
    assert all(line.isascii() and len(line) <= 80 for line in lines)
    assert lines[2].endswith("~")


def test_times_are_local_or_utc(monkeypatch: pytest.MonkeyPatch, scheduler: Scheduler) -> None:
    monkeypatch.setattr(Scheduler, "document", lambda *_: [JOB])
    scheduler.refuses = False
    local = datetime.fromisoformat(JOB["created_at"]).astimezone()  # type: ignore[arg-type]
    assert f"{local:%Y-%m-%d %H:%M:%S} " in look(scheduler, ["list"], monkeypatch)[0]
    assert "2026-11-23 13:28:54Z" in look(scheduler, ["list", "--utc"], monkeypatch)[0]
    assert "13:28:54Z" not in look(scheduler, ["list"], monkeypatch)[0], (
        "the option of one command is not the next one's"
    )
    assert local.utcoffset() is not None
    assert local.astimezone(UTC).hour == 13
