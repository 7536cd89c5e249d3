"""Test of GET /docs in a browser that reaches only this scheduler. Left out where there is no Chromium."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.fleet import Fleet

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",  # Chromium refuses to run as root with a sandbox; it loads only this page
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--virtual-time-budget=20000",  # milliseconds of the page's clock before the page is read
)


@pytest.mark.skipif(CHROMIUM is None, reason="left out: there is no Chromium (apt install chromium)")
def test_the_page_shows_every_operation_without_the_internet(fleet: Fleet, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    scheduler = fleet.start_scheduler("s1")
    shown = subprocess.run(
        [CHROMIUM, *OPTIONS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"{scheduler.url}/docs"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    with fleet.client(scheduler) as client:
        described = client.get("/openapi.json")
    summaries = [operation["summary"] for path in described["paths"].values() for operation in path.values()]
    assert len(summaries) > 15
    missing = [summary for summary in summaries if summary not in shown.stdout]
    assert missing == [], shown.stderr[-2000:]
