"""Test restarts of a child process."""

from __future__ import annotations

import sys
from pathlib import Path

from taskd.dev.child_process import ChildProcess, Program
from taskd.dev.logs import Tail, no_warning
from taskd.dev.restarter import Restarter
from tests.servers import wait_until


def test_a_child_that_is_to_rest_is_started_again_only_after_its_rest_and_only_once(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    child = ChildProcess("child", log)
    said: list[str] = []
    program = Program(argv=[sys.executable, "-c", ""], environment={})
    restarter = Restarter(
        "child", child, lambda: child.spawn(program), Tail(log, no_warning), lambda _, line: said.append(line)
    )
    restarter.delay_restart(1.5)
    restarter.launch()

    def ends(count: int) -> bool:
        restarter.check()
        return sum("ended" in line for line in said) >= count

    wait_until(lambda: ends(2), 30)
    child.kill()
    waits = [line.rpartition(" in ")[2] for line in said if "ended" in line]
    assert waits == ["1.5 s", "0.4 s"]
