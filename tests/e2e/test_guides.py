"""The guides, followed word for word, beside a scheduler: workers and web servers are those that they start."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskd.dev.servers.ports import free_port
from tests.e2e.fleet import Fleet
from tests.pages import ROOT, Reader, blocks

GUIDES = ("retries", "long-tasks", "schedules", "fastapi", "django", "coming-from-celery", "recipes", "cheat-sheet")


@pytest.fixture
def reader(fleet: Fleet, tmp_path: Path) -> Iterator[Reader]:
    """Somebody in an empty folder, who has a scheduler."""
    scheduler = fleet.start_scheduler("s1")
    (folder := tmp_path / "work").mkdir()
    found = Reader(
        folder,
        fleet.environment | {"TASKD_SERVER": scheduler.url, "WORKER_HTTP_ADDR": "", "DJANGO_SETTINGS_MODULE": ""},
        instead={"^pip install .*": "true", "8000": str(free_port())},
    )
    del found.environment["DJANGO_SETTINGS_MODULE"]
    yield found
    found.close()


@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_does_what_it_says(reader: Reader, guide: str) -> None:
    found = blocks(ROOT / "docs" / f"{guide}.md")
    if "curl" in "".join(block.text for block in found) and not shutil.which("curl"):
        pytest.skip("curl is not installed")
    for block in found:
        reader.follow(block)
