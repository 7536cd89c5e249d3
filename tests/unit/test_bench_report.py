"""What is committed of the benchmark: one run, told in four places."""

from __future__ import annotations

import json
from pathlib import Path

from bench.report import markdown, picture, short

ROOT = Path(__file__).parents[2]
LAST = json.loads((ROOT / "bench/last.json").read_text())


def test_the_page_and_the_picture_are_those_of_the_committed_run() -> None:
    assert (ROOT / "docs/measured.md").read_text() == markdown(LAST)
    assert (ROOT / "docs/images/bench.svg").read_text() == picture(LAST["contest"])


def test_the_readme_has_the_table_of_the_committed_run() -> None:
    assert short(LAST) in (ROOT / "README.md").read_text()
