"""Test the faults of the torture on substitutes for schedulers and workers."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import msgspec
import pytest

from taskd.dev.child_process import ChildProcess, Program
from taskd.dev.logs import Tail, no_warning
from taskd.dev.process import is_stopped
from taskd.dev.restarter import Restarter
from taskd.torture.fault_injector import FaultInjector
from taskd.torture.fault_plan import PlannedFault
from taskd.torture.faultlog import FaultLog
from taskd.torture.history import Fault
from taskd.torture.target import Target
from tests.servers import wait_until

ASLEEP = Program(argv=[sys.executable, "-c", "import time; time.sleep(600)"], environment={})


class Sleepers:
    """Two sleeping processes that are restarted as in a cluster."""

    members = ("worker-1", "worker-2")

    def __init__(self, folder: Path) -> None:
        self.restarters = {name: self._launched(name, folder / f"{name}.log") for name in self.members}

    @staticmethod
    def _launched(name: str, log: Path) -> Restarter:
        child = ChildProcess(name, log)
        restarter = Restarter(
            name, child, lambda: child.spawn(ASLEEP), Tail(log, no_warning), lambda _name, _line: None
        )
        restarter.launch()
        return restarter

    def restarter(self, name: str) -> Restarter:
        return self.restarters[name]

    def check(self) -> None:
        for restarter in self.restarters.values():
            restarter.check()

    def pid(self, name: str) -> int:
        pid = self.restarters[name].child.pid
        assert pid is not None
        return pid


@pytest.fixture
def sleepers(tmp_path: Path) -> Iterator[Sleepers]:
    new_sleepers = Sleepers(tmp_path)
    yield new_sleepers
    for restarter in new_sleepers.restarters.values():
        restarter.child.kill()


def noted(folder: Path) -> list[Fault]:
    lines = (folder / "faults.ndjson").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=Fault) for line in lines]


def test_each_fault_is_made_once_in_its_time_and_written_down_with_its_end(sleepers: Sleepers, tmp_path: Path) -> None:
    log = FaultLog(tmp_path / "faults.ndjson")
    faults = [
        PlannedFault(at=0.0, what="SIGSTOP", target="worker-1", hold=0.5),
        PlannedFault(at=0.0, what="SIGKILL", target="worker-2"),
        PlannedFault(at=0.1, what="SIGTERM", target="worker-1"),
    ]
    injector = FaultInjector(cast("Target", sleepers), faults, log)
    frozen, killed = sleepers.pid("worker-1"), sleepers.pid("worker-2")
    injector.step()
    assert noted(tmp_path) == []

    injector.begin()
    injector.step()
    wait_until(lambda: is_stopped(frozen))

    def over() -> bool:
        injector.step()
        sleepers.check()
        return [f.what for f in noted(tmp_path)].count("start") == 2

    wait_until(over, 30)
    log.close()
    assert [(f.what, f.pid) for f in noted(tmp_path) if f.target == "worker-1"] == [
        ("SIGSTOP", frozen),
        ("SIGCONT", frozen),
        ("SIGTERM", frozen),
        ("exit", frozen),
        ("start", sleepers.pid("worker-1")),
    ]
    about_two = [f for f in noted(tmp_path) if f.target == "worker-2"]
    assert [(f.what, f.pid, f.status) for f in about_two] == [
        ("SIGKILL", killed, None),
        ("exit", killed, -signal.SIGKILL),
        ("start", sleepers.pid("worker-2"), None),
    ]
    assert log.counts == {"worker frozen": 1, "worker killed": 1, "worker asked to stop": 1}


def test_healing_lets_go_of_what_is_frozen_and_makes_no_more_faults(sleepers: Sleepers, tmp_path: Path) -> None:
    log = FaultLog(tmp_path / "faults.ndjson")
    faults = [
        PlannedFault(at=0.0, what="SIGSTOP", target="worker-1", hold=600.0, whole=True),
        PlannedFault(at=0.0, what="SIGKILL", target="worker-1"),
    ]
    injector = FaultInjector(cast("Target", sleepers), faults, log)
    injector.begin()
    injector.step()
    pid = sleepers.pid("worker-1")
    wait_until(lambda: is_stopped(pid))
    injector.heal()
    wait_until(lambda: not is_stopped(pid))
    injector.step()
    log.close()
    assert [f.what for f in noted(tmp_path)] == ["SIGSTOP", "SIGCONT"]
