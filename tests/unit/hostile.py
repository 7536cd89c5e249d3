"""A scheduler whose texts all try to steer a terminal, and a terminal that shows them."""

from __future__ import annotations

import io
import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from taskd.cli.main import run
from tests.unit.test_terminal import steering

HOSTILE = (
    "\x1b]0;x\x07\x1b[2J\x1b[38;5;123m \x9b31m \x7f \u202eevil\u2066 \u200b\ufeff \U000e0041 \u2028 \ud800 "
    "[red]red[/] [link=http://x]link[/link] [/] :warning: \r\nnew\tline"
)
AT = "2026-01-31T12:00:00Z"
#: Sequences that rich writes itself: colours, the alternate screen, the cursor.
OWN = re.compile(r"\x1b\[(?:[0-9;]*m|\?1049[hl]|\?25[hl]|H|2K|\d*A)|\r")


class Scheduler:
    """A fake scheduler that answers each request with documents full of `text`, or with refusals full of it."""

    def __init__(self) -> None:
        self.text = HOSTILE
        self.refuses = False
        self.url = ""

    def document(self, method: str, path: str) -> Any:
        """Return the answer to one request."""
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
        return next((document for start, document in rest.items() if path.startswith(start)), schedule)


@contextmanager
def hostile_scheduler() -> Iterator[Scheduler]:
    """Yield the fake scheduler, which listens at its `url`."""
    hostile = Scheduler()

    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = self.path.partition("?")[0]
            document = hostile.document(self.command, path)
            status = 200
            if hostile.refuses:
                status, document = 409, {"title": hostile.text, "detail": hostile.text, "job_status": hostile.text}
            # Raw JSON: only characters that JSON forbids, and surrogates, are escaped.
            body = json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = _reply

        def log_message(self, *_: object) -> None:
            """Write no log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    hostile.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield hostile
    server.shutdown()
    thread.join()
    server.server_close()


class Terminal(io.StringIO):
    """A stream that pretends to be a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Terminal, Terminal]]:
    """Yield standard output and error, as terminals of 80 columns."""
    with monkeypatch.context() as patch:
        out, err = Terminal(), Terminal()
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        patch.setenv("COLUMNS", "80")
        patch.setenv("LINES", "24")
        patch.setenv("TERM", "xterm-256color")
        yield out, err


def look(scheduler: Scheduler, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Return the output of one command on a terminal. Fails on a bug, and on text that steers the terminal."""
    monkeypatch.setenv("TASKD_SERVER", scheduler.url)
    with terminal(monkeypatch) as (out, err):
        run(arguments)
    output = out.getvalue() + err.getvalue()
    assert "(a bug" not in output
    assert steering(OWN.sub("", output)) == []
    assert "38;5;123m" not in output.replace(r"\x1b[38;5;123m", "").replace(r"\u001b[38;5;123m", "")
    assert "]8;" not in output, "a link of the terminal"
    return out.getvalue(), err.getvalue()
