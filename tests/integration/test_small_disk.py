"""Test the small disk of the fault tests: filled, freed, under PostgreSQL, and removed completely."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from taskd.dev.servers.binaries import Binaries
from taskd.dev.servers.postgres import PostgresServer
from tests.chaos import disk
from tests.chaos.disk import SmallDisk
from tests.servers import wait_until

pytestmark = pytest.mark.skipif(disk.available() is not None, reason=str(disk.available()))

MEGABYTE = 1024 * 1024


def mounted(folder: Path) -> bool:
    return f" {folder} " in disk.MOUNTS.read_text()


def test_a_full_disk_takes_nothing_until_it_is_freed(private_folder: Path) -> None:
    with SmallDisk(private_folder / "disk", MEGABYTE) as small:
        assert mounted(small.folder)
        assert small.folder.stat().st_mode & 0o777 == 0o711
        kept = small.folder / "kept"
        kept.write_bytes(b"k" * 10_000)
        for _ in range(2):
            small.fill()
            with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
                (small.folder / "more").write_bytes(b"x" * disk.PAGE)
        small.free()
        (small.folder / "more").write_bytes(b"x" * (MEGABYTE // 2))
        assert kept.read_bytes() == b"k" * 10_000
    assert not (private_folder / "disk").exists()


def fail_on(small: SmallDisk, files: ExitStack) -> None:
    """Fail on a disk with an open file."""
    with small:
        files.enter_context((small.folder / "open").open("w"))
        assert mounted(small.folder)
        raise ZeroDivisionError


def test_a_disk_is_unmounted_when_its_test_fails_and_a_file_is_open(private_folder: Path) -> None:
    with ExitStack() as files:
        with pytest.raises(ZeroDivisionError):
            fail_on(SmallDisk(private_folder / "disk", MEGABYTE), files)
        assert not mounted(private_folder / "disk")


def test_the_next_disk_sweeps_what_a_killed_process_left(private_folder: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from tests.chaos.disk import SmallDisk\n"
        "SmallDisk(Path(sys.argv[1]), 65536).__enter__(); os.kill(os.getpid(), 9)"
    )
    abandoned = private_folder / "left"
    killed = subprocess.run([sys.executable, "-c", program, str(abandoned)], cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL
    assert mounted(abandoned)
    with SmallDisk(private_folder / "disk", 65536):
        assert not mounted(abandoned)


def test_postgresql_refuses_writes_on_a_full_disk_and_takes_them_again(
    server_binaries: Binaries, private_folder: Path
) -> None:
    with SmallDisk(private_folder / "disk", 160 * MEGABYTE) as small:
        server = PostgresServer(
            server_binaries.postgres, small.folder / "postgres", log=private_folder / "postgres.log"
        )
        try:
            server.start()
            assert (
                server.folder == small.folder / "postgres"
            )  # PostgreSQL's user may enter it, so it needs no other home
            with psycopg.connect(server.dsn, autocommit=True) as connection:
                connection.execute("CREATE TABLE kept AS SELECT 17 AS n")
            small.fill()
            with pytest.raises(psycopg.Error), psycopg.connect(server.dsn, autocommit=True) as connection:
                connection.execute("CREATE TABLE big AS SELECT repeat('x', 500) FROM generate_series(1, 100000)")
            small.free()
            if server.child.pid is None:  # a server that can no longer write its log ends
                server.start()
            wait_until(lambda: server.probe() is None)
            with psycopg.connect(server.dsn, autocommit=True) as connection:
                connection.execute("INSERT INTO kept VALUES (18)")
                assert connection.execute("SELECT n FROM kept ORDER BY n").fetchall() == [(17,), (18,)]
        finally:
            server.kill()
        assert (small.folder / "postgres" / "PG_VERSION").exists()
