"""What systemd hears of a scheduler and a worker from start to end, over the socket that it would give them."""

from __future__ import annotations

import socket

from tests.e2e.fleet import Fleet


def heard(line: socket.socket, wanted: bytes) -> None:
    """Return when `wanted` was heard."""
    while line.recv(100) != wanted:
        pass


def test_a_scheduler_and_a_worker_tell_that_they_are_ready_alive_and_stopping(fleet: Fleet) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(str(fleet.folder / "notify"))
        line.settimeout(30)
        environment = {"NOTIFY_SOCKET": str(fleet.folder / "notify"), "WATCHDOG_USEC": "100000"}
        for arguments in (
            ["scheduler", "--http-addr", "127.0.0.1:0"],
            ["worker", "--http-addr", "", "--app", "tests.e2e.tasks"],
        ):
            process = fleet.spawn(*arguments, **environment)
            for message in (b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"):
                heard(line, message)
            process.popen.terminate()
            heard(line, b"STOPPING=1")
            assert process.popen.wait(30) == 0
