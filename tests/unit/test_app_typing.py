"""Type checkers know what a submit takes, what its handle gives, and what a dependency is."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

CALLS = Path(__file__).with_name("calls.txt")
ROOT = Path(__file__).parents[2]
#: The ends of lines that are errors. mypy works out a ParamSpec inside of a generic argument from the arguments beside it, and
#: so misses some in ctx.submit; what pyright makes of an overload that is given Any is Any.
WRONG, WRONG_TO_PYRIGHT, ANY_TO_PYRIGHT = "# wrong", "# wrong to pyright", "# Any to pyright"


def checked(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """What a checker says of the calls."""
    (folder / "calls.py").write_text(CALLS.read_text("utf-8"), "utf-8")
    environment = os.environ | {"MYPYPATH": str(ROOT / "src")}
    command = (sys.executable, "-m", *command, str(folder / "calls.py"))
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def ending(*marks: str) -> set[int]:
    """The numbers of the lines with one of these marks."""
    return {number for number, line in enumerate(CALLS.read_text("utf-8").splitlines(), 1) if line.endswith(marks)}


def test_exactly_the_wrong_calls_are_errors_to_mypy(tmp_path: Path) -> None:
    told = checked(tmp_path, "mypy", "--config-file", str(ROOT / "pyproject.toml"))
    assert told.stderr == ""
    errors = {int(number) for number in re.findall(r"calls\.py:(\d+): error:", told.stdout)}
    assert errors == ending(WRONG), told.stdout


def test_exactly_the_wrong_calls_are_errors_to_pyright(tmp_path: Path) -> None:
    settings = {"typeCheckingMode": "standard", "pythonVersion": "3.11", "extraPaths": [str(ROOT / "src")]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings), "utf-8")
    told = checked(tmp_path, "basedpyright", "--outputjson", "--pythonpath", sys.executable, "--project", str(tmp_path))
    found = json.loads(told.stdout)["generalDiagnostics"]
    errors = {one["range"]["start"]["line"] + 1 for one in found if one["severity"] == "error"}
    assert errors == ending(WRONG, WRONG_TO_PYRIGHT, ANY_TO_PYRIGHT), told.stdout
