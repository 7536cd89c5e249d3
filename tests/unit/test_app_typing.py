"""Tests that type checkers know the arguments of a submit, the result of its handle, and the types of dependencies."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

CALLS = Path(__file__).with_name("calls.txt")
ROOT = Path(__file__).parents[2]
#: The ends of lines that are errors. Only pyright demands `get` for the keys of a TypedDict that may be missing.
WRONG, WRONG_TO_PYRIGHT = "# wrong", "# wrong to pyright"


def checked(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a type checker on the calls."""
    (folder / "calls.py").write_text(CALLS.read_text("utf-8"), "utf-8")
    environment = os.environ | {"MYPYPATH": str(ROOT / "src")}
    command = (sys.executable, "-m", *command, str(folder / "calls.py"))
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def ending(*marks: str) -> set[int]:
    """Return the numbers of the lines with one of these marks."""
    return {number for number, line in enumerate(CALLS.read_text("utf-8").splitlines(), 1) if line.endswith(marks)}


def test_exactly_the_wrong_calls_are_errors_to_mypy(tmp_path: Path) -> None:
    process = checked(tmp_path, "mypy", "--config-file", str(ROOT / "pyproject.toml"))
    assert process.stderr == ""
    errors = {int(number) for number in re.findall(r"calls\.py:(\d+): error:", process.stdout)}
    assert errors == ending(WRONG), process.stdout


def test_exactly_the_wrong_calls_are_errors_to_pyright(tmp_path: Path) -> None:
    settings = {"typeCheckingMode": "standard", "pythonVersion": "3.11", "extraPaths": [str(ROOT / "src")]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings), "utf-8")
    process = checked(
        tmp_path, "basedpyright", "--outputjson", "--pythonpath", sys.executable, "--project", str(tmp_path)
    )
    diagnostics = json.loads(process.stdout)["generalDiagnostics"]
    errors = {entry["range"]["start"]["line"] + 1 for entry in diagnostics if entry["severity"] == "error"}
    assert errors == ending(WRONG, WRONG_TO_PYRIGHT), process.stdout
