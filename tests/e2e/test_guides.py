"""Test the guides, followed word for word, with a scheduler; the guides start the workers and web servers."""

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
    """Return a reader in an empty folder, with a running scheduler."""
    scheduler = fleet.start_scheduler("s1")
    (folder := tmp_path / "work").mkdir()
    guide_reader = Reader(
        folder,
        fleet.environment | {"TASKD_SERVER": scheduler.url, "WORKER_HTTP_ADDR": "", "DJANGO_SETTINGS_MODULE": ""},
        instead={"^pip install .*": "true", "8000": str(free_port())},
    )
    del guide_reader.environment["DJANGO_SETTINGS_MODULE"]
    yield guide_reader
    guide_reader.close()


@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_does_what_it_says(reader: Reader, guide: str) -> None:
    guide_blocks = blocks(ROOT / "docs" / f"{guide}.md")
    if "curl" in "".join(block.text for block in guide_blocks) and not shutil.which("curl"):
        pytest.skip("curl is not installed")
    for block in guide_blocks:
        reader.follow(block)
