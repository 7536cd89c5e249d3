"""A type checker knows what a submit takes and what its handle gives."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CALLS = Path(__file__).with_name("calls.txt")
ROOT = Path(__file__).parents[2]


def test_exactly_the_wrong_calls_are_errors(tmp_path: Path) -> None:
    source = CALLS.read_text("utf-8")
    (tmp_path / "calls.py").write_text(source, "utf-8")
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(tmp_path / "calls.py")]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.stderr == ""
    errors = {int(number) for number in re.findall(r"calls\.py:(\d+): error:", told.stdout)}
    wrong = {number for number, line in enumerate(source.splitlines(), 1) if line.endswith("# wrong")}
    assert errors == wrong, told.stdout
    assert told.stdout.count(": error:") >= len(wrong)
