"""Tests of the programs that CI installs before the tests: only missing ones, and a failure costs their tests only."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "programs"
TOOLS = ("bash", "chmod", "env", "mktemp", "rm", "tail")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Folder with the tools of the script; of the programs it has only curl."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        (folder / tool).symlink_to(shutil.which(tool) or tool)
    program(folder, "curl", "exit 0")
    return folder


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": str(folder), "POLICY_RC_D": str(folder / "policy-rc.d")}
    return subprocess.run([SCRIPT], env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_missing_programs_are_installed_without_starting_a_server_and_a_failure_is_a_line(path: Path) -> None:
    program(path, "id", "echo 0")
    log = path / "log"
    program(
        path,
        "apt-get",
        f'[ -x {path}/policy-rc.d ] || exit 9; echo "$@" >> {log}; case "$*" in *chromium*) echo "E: no"; exit 100;; esac',
    )
    process = run(path)
    assert (process.returncode, process.stderr) == (0, "")
    assert "chromium cannot be installed, its tests are left out: E: no" in process.stdout
    commands = log.read_text().splitlines()
    assert commands[0] == "-qq update"
    assert {line.split()[-1] for line in commands[1:]} >= {"chromium", "faketime"}
    assert "curl" not in log.read_text()
    assert not (path / "policy-rc.d").exists()


@pytest.mark.parametrize("user", ["1000", "0"])
def test_without_rights_or_apt_get_a_line_says_what_is_left_out(path: Path, user: str) -> None:
    program(path, "id", f"echo {user}")
    if user == "1000":
        program(path, "apt-get", "exit 1")
    process = run(path)
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.startswith("not installed, and this is no root on a Debian: ")
    assert "their tests are left out" in process.stdout
