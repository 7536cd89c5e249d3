"""Tests of failpoints: the effect of each order, refusals, and that the table, the page and the code have the same points."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

import taskd
from taskd.domain.errors import ConfigurationError, StoreUnavailable, TransportUnavailable
from taskd.runtime.failpoints import POINTS, VARIABLE, arm, passed

SOURCES = Path(taskd.__file__).parent
PASS = "import asyncio; from taskd.runtime import failpoints as f; {}; asyncio.run(f.passed('claim.done')); print('on')"


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm({})


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Signals that os.kill would have sent."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    return sent


def process(program: str, orders: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program], env=os.environ | {VARIABLE: orders}, stdout=subprocess.PIPE, text=True
    )


def test_each_point_of_the_table_is_passed_at_one_place_and_no_other_is() -> None:
    passages = Counter(
        name for file in SOURCES.rglob("*.py") for name in re.findall(r'await passed\("([^"]*)"\)', file.read_text())
    )
    assert passages == Counter(POINTS.keys())


def test_each_point_is_in_the_page_on_fault_tests() -> None:
    page = (SOURCES.parents[1] / "docs" / "fault-tests.md").read_text("utf-8")
    table = page.partition("| point |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `([a-z.]+)` \| ([^|]+) \|", table, re.MULTILINE)
    assert rows == [(name, point.where) for name, point in POINTS.items()]


async def test_a_point_that_is_off_does_nothing_and_does_not_let_the_loop_turn(signals: list[tuple[int, int]]) -> None:
    turned: list[bool] = []
    asyncio.get_running_loop().call_soon(turned.append, True)
    for name in POINTS:
        await passed(name)
    assert not turned
    assert not signals


async def test_kill_and_stop_signal_this_process(signals: list[tuple[int, int]]) -> None:
    arm({VARIABLE: "claim.done:kill, settle.before:stop"})
    await passed("settle.before")
    await passed("claim.before")
    await passed("claim.done")
    assert signals == [(os.getpid(), signal.SIGSTOP), (os.getpid(), signal.SIGKILL)]


async def test_a_count_names_one_passing(signals: list[tuple[int, int]]) -> None:
    arm({VARIABLE: "claim.done:kill@3,claim.done:stop@1"})
    sent = []
    for _ in range(4):
        await passed("claim.done")
        sent.append(len(signals))
    assert sent == [1, 1, 2, 2]
    assert [number for _, number in signals] == [signal.SIGSTOP, signal.SIGKILL]


@pytest.mark.parametrize(
    ("name", "kind", "unknown"),
    [
        ("settle.before", StoreUnavailable, False),
        ("settle.done", StoreUnavailable, True),
        ("ring.sent", TransportUnavailable, False),
    ],
)
async def test_an_error_is_the_one_that_an_outage_raises_there(name: str, kind: type[Exception], unknown: bool) -> None:
    arm({VARIABLE: f"{name}:error"})
    for _ in range(2):
        with pytest.raises(kind, match=name) as caught:
            await passed(name)
        assert getattr(caught.value, "outcome_unknown", None) is unknown


async def test_a_sleep_lets_the_rest_of_the_process_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    slept, go_on = [], asyncio.Event()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await go_on.wait()

    monkeypatch.setattr(asyncio, "sleep", sleep)
    arm({VARIABLE: "settle.before:sleep=2.5"})
    passing = asyncio.create_task(passed("settle.before"))
    await passed("claim.done")
    async with asyncio.timeout(10):
        asyncio.get_running_loop().call_soon(go_on.set)
        await passing
    assert slept == [2.5]


@pytest.mark.parametrize(
    "orders",
    [
        "nowhere:kill",
        "claim.done",
        "claim.done:",
        "claim.done:explode",
        "claim.done:sleep",
        "claim.done:sleep=soon",
        "claim.done:kill@0",
        "claim.done:kill@x",
        "claim.done:kill;settle.before:stop",
        "claim.done:kill,nowhere:kill",
    ],
)
def test_an_invalid_order_is_refused_and_no_failpoint_is_on(orders: str) -> None:
    with pytest.raises(ConfigurationError, match=r"TASKD_FAILPOINT.*submit\.stored.*reoffer\.moved"):
        arm({VARIABLE: orders})
    asyncio.run(passed("claim.done"))


@pytest.mark.parametrize("command", ["scheduler", "worker"])
def test_a_process_with_an_unknown_failpoint_does_not_start(command: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "taskd", command],
        env=os.environ | {VARIABLE: "nowhere:kill"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert "there is no failpoint 'nowhere'; the failpoints are submit.stored" in ended.stderr


def test_a_process_with_failpoints_says_so_in_one_line() -> None:
    with capture_logs() as lines:
        arm({VARIABLE: "claim.done:kill,settle.before:sleep=2"})
    assert [(line["log_level"], line["failpoints"]) for line in lines] == [
        ("warning", "claim.done:kill,settle.before:sleep=2")
    ]
    with capture_logs() as lines:
        arm({VARIABLE: ""})
    assert not lines


def test_a_kill_ends_a_real_process() -> None:
    with process(PASS.format("f.arm()"), "claim.done:kill") as killed:
        assert "on" not in killed.communicate(timeout=60)[0].splitlines()
    assert killed.returncode == -signal.SIGKILL


def test_a_stop_freezes_a_real_process_until_it_is_continued() -> None:
    with process(PASS.format("f.arm()"), "claim.done:stop") as stopped:
        _, status = os.waitpid(stopped.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        stopped.send_signal(signal.SIGCONT)
        assert stopped.communicate(timeout=60)[0].endswith("on\n")
    assert stopped.returncode == 0


def test_an_executor_that_inherits_the_variable_passes_every_point() -> None:
    with process(PASS.format("import taskd.executor.main"), "claim.done:kill") as executor:
        assert executor.communicate(timeout=60)[0] == "on\n"
    assert executor.returncode == 0
    callers = [file for file in SOURCES.rglob("*.py") if "failpoints.arm(" in file.read_text()]
    assert {(file.parent.name, file.name) for file in callers} == {
        ("compose", "scheduler.py"),
        ("compose", "worker.py"),
    }
