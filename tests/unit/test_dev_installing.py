"""Tests of pip's output for `make demo`: names and progress, no addresses."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from taskd.dev import installing

FILE = Path(installing.__file__)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("Looking in indexes: https://user:secret@registry.example/simple", None),
        ("Collecting psycopg[binary]<4,>=3.2 (from taskd==0.1.0)", "getting psycopg"),
        ("  Downloading https://registry.example/psycopg.whl (20 kB)", None),
        ("Obtaining file:///home/me/taskd", "getting taskd itself"),
        ("  Building editable for taskd (pyproject.toml): started", "building taskd"),
        ("Installing collected packages: a, b, c", "installing 3 packages"),
    ],
)
def test_a_line_of_pip_becomes_progress_without_addresses(line: str, shown: str | None) -> None:
    assert installing.step(line) == shown


def test_silence_becomes_a_line_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installing, "QUIET", 0.05)
    reading, writing = os.pipe()
    read, write = os.fdopen(reading), os.fdopen(writing, "w")
    lines = installing._lines(read)
    began = time.monotonic()
    assert next(lines) is None
    assert time.monotonic() - began < 5
    write.write("Collecting a\n")
    write.close()
    assert [line for line in lines if line] == ["Collecting a\n"]
    read.close()


def test_a_failure_keeps_pips_status_and_hides_addresses() -> None:
    process = subprocess.run(
        [
            sys.executable,
            "-I",
            str(FILE),
            "--no-index",
            "--find-links",
            "http://user:secret@127.0.0.1:9/x",
            "taskd-has-no-such",
        ],
        env={name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"},  # pip may warn of itself
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert process.returncode != 0
    assert "No matching distribution found for taskd-has-no-such" in process.stdout
    assert "secret" not in process.stdout + process.stderr
    assert "127.0.0.1" not in process.stdout + process.stderr
