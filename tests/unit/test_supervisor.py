"""Tests of the messages to systemd."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskd.runtime.supervisor import Supervisor


@pytest.fixture
def notify_socket(tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        yield str(tmp_path / "notify"), listener


async def test_systemd_gets_the_start_and_the_end(notify_socket: tuple[str, socket.socket]) -> None:
    address, listener = notify_socket
    supervisor = Supervisor({"NOTIFY_SOCKET": address})
    supervisor.ready()
    supervisor.stopping()
    assert [listener.recv(100), listener.recv(100)] == [b"READY=1", b"STOPPING=1"]


async def test_systemd_gets_signs_of_life_twice_as_often_as_it_wants_them(
    notify_socket: tuple[str, socket.socket],
) -> None:
    address, listener = notify_socket
    supervisor = Supervisor({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000", "WATCHDOG_PID": str(os.getpid())})
    watching = asyncio.create_task(supervisor.watch())
    seen = [await asyncio.to_thread(listener.recv, 100) for _ in range(3)]
    watching.cancel()
    assert seen == [b"WATCHDOG=1"] * 3


@pytest.mark.parametrize(
    "more",
    [{}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"}],
    ids=["none", "bad", "not ours"],
)
async def test_without_a_watchdog_of_this_process_there_are_no_signs_of_life(
    notify_socket: tuple[str, socket.socket], more: dict[str, str]
) -> None:
    address, listener = notify_socket
    watching = asyncio.create_task(Supervisor({"NOTIFY_SOCKET": address, **more}).watch())
    await asyncio.sleep(0)
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.recv(100)
    watching.cancel()


async def test_without_systemd_no_message_is_sent() -> None:
    supervisor = Supervisor({})
    supervisor.ready()
    Supervisor({"NOTIFY_SOCKET": "/nowhere/at/all"}).ready()
    watching = asyncio.create_task(supervisor.watch())
    await asyncio.sleep(0)
    assert not watching.done()
    watching.cancel()
