"""Tests of deploy/systemd: systemd takes the units, and they are as closed as they claim."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from taskd.settings import HttpSettings, WorkerSettings

UNITS = sorted((Path(__file__).parents[2] / "deploy" / "systemd").glob("*.service"))
GRACE = {"taskd-scheduler": HttpSettings().shutdown_grace, "taskd-worker@": WorkerSettings().grace}


def values(unit: Path) -> dict[str, str]:
    """Return the last value of each key."""
    return dict(re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.MULTILINE))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_each_unit_waits_for_readiness_is_watched_and_stops_within_the_grace(unit: Path) -> None:
    unit_values = values(unit)
    assert (unit_values["Type"], unit_values["KillMode"], unit_values["Restart"]) == ("notify", "mixed", "always")
    assert int(unit_values["WatchdogSec"]) > 0
    assert int(unit_values["TimeoutStopSec"]) > GRACE[unit.stem]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="this machine has no systemd-analyze")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_takes_each_unit_and_finds_it_closed(unit: Path, tmp_path: Path) -> None:
    copy = tmp_path / unit.name.replace("@", "@one")
    copy.write_text(unit.read_text().replace("/opt/taskd/bin/taskd", sys.executable).replace("/opt/taskd/app", "/tmp"))
    verified = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False)
    complaints = [line for line in verified.stderr.splitlines() if unit.stem.rstrip("@") in line]
    assert complaints == []
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(copy)], capture_output=True, text=True, check=False
    )
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", judged.stdout)
    assert exposure is not None, judged.stdout + judged.stderr
    assert float(exposure[1]) <= 2.5
