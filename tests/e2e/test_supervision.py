"""Test the messages of a scheduler and a worker to systemd, from start to end, over a socket like systemd's."""

from __future__ import annotations

import socket

from tests.e2e.fleet import Fleet


def await_message(connection: socket.socket, message: bytes) -> None:
    """Return when `message` was received."""
    while connection.recv(100) != message:
        pass


def test_a_scheduler_and_a_worker_tell_that_they_are_ready_alive_and_stopping(fleet: Fleet) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
        connection.bind(str(fleet.folder / "notify"))
        connection.settimeout(30)
        environment = {"NOTIFY_SOCKET": str(fleet.folder / "notify"), "WATCHDOG_USEC": "100000"}
        for arguments in (
            ["scheduler", "--http-addr", "127.0.0.1:0"],
            ["worker", "--http-addr", "", "--app", "tests.e2e.tasks"],
        ):
            process = fleet.spawn(*arguments, **environment)
            for message in (b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"):
                await_message(connection, message)
            process.popen.terminate()
            await_message(connection, b"STOPPING=1")
            assert process.popen.wait(30) == 0
