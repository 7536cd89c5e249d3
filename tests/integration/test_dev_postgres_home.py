"""Test that PostgreSQL gets a separate home if its user may not enter root's folders."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg
import pytest

from taskd.dev.servers import owner, postgres_home
from taskd.dev.servers.binaries import Binaries
from taskd.dev.servers.owner import Owner
from taskd.dev.servers.postgres import PostgresServer

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root lends PostgreSQL to another user")


@pytest.fixture
def lender() -> Owner:
    found = owner.unprivileged()
    assert found is not None
    return found


@pytest.fixture
def closed(private_folder: Path) -> Path:
    """Return a folder that only root may enter."""
    folder = private_folder / "closed"
    folder.mkdir(mode=0o700)
    return folder


def test_a_cluster_in_a_closed_folder_keeps_its_data_over_restarts(
    server_binaries: Binaries, closed: Path, private_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_home, "HOME", private_folder / "home")
    for expected in (None, ("kept",)):
        server = PostgresServer(server_binaries.postgres, closed / "postgres", log=private_folder / "log")
        server.start()
        try:
            with psycopg.connect(server.dsn, autocommit=True) as connection:
                known = connection.execute("SELECT 'kept' WHERE to_regclass('kept') IS NOT NULL").fetchone()
                connection.execute("CREATE TABLE IF NOT EXISTS kept ()")
            assert known == expected
        finally:
            server.stop()
    assert (closed / "postgres").is_symlink()


def test_data_whose_link_is_gone_are_not_found_again(closed: Path, private_folder: Path, lender: Owner) -> None:
    home = private_folder / "home"
    place = postgres_home.data(closed / "postgres", lender, home)
    place.mkdir()
    assert postgres_home.data(closed / "postgres", lender, home) == place
    assert place.exists()
    (closed / "postgres").unlink()
    postgres_home.data(closed / "postgres", lender, home)
    assert not place.exists()


def test_an_open_way_is_used_as_it_is(private_folder: Path, server_binaries: Binaries, lender: Owner) -> None:
    assert postgres_home.data(private_folder / "postgres", lender) == private_folder / "postgres"
    assert postgres_home.data(private_folder / "postgres", None) == private_folder / "postgres"
    assert not (private_folder / "postgres").exists()


def test_closed_programs_are_copied_once(closed: Path, private_folder: Path, lender: Owner) -> None:
    binary = closed / "package" / "prefix" / "bin"
    binary.mkdir(parents=True)
    (binary / "postgres").write_text("#!/bin/sh\n", "ascii")
    (closed / "package.libs").mkdir()
    (closed / "package.libs" / "lib.so").write_text("", "ascii")
    copy = postgres_home.programs(binary, lender, private_folder / "home")
    assert owner.closed_folder(copy, lender) is None
    assert (copy / "postgres").exists()
    assert (copy.parents[2] / "package.libs" / "lib.so").exists()
    assert postgres_home.programs(binary, lender, private_folder / "home") == copy
    assert len(list((private_folder / "home").iterdir())) == 1
