"""Tests of the search of `taskd dev` for the servers' programs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from taskd.dev.servers import binaries
from taskd.dev.servers.binaries import Search
from taskd.domain.errors import ConfigurationError


def test_a_folder_on_the_path_that_cannot_be_read_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One name is too long for the file system: root cannot read that folder either."""
    monkeypatch.setattr(Path, "glob", lambda *_: iter(()))  # no servers of this machine
    (tmp_path / "file").write_text("no folder")
    path = os.pathsep.join(["x" * 300, str(tmp_path / "file"), str(tmp_path / "absent"), str(tmp_path)])
    search = Search(source="system", environ={"PATH": path})
    for find in (binaries.find_redis, binaries.find_etcd):
        with pytest.raises(ConfigurationError, match="was not found"):
            find(search)
    folders = list(binaries._system_postgres({"PATH": path}))
    assert tmp_path not in folders
    for program in ("postgres", "initdb"):
        (tmp_path / program).write_text("#!/bin/sh\necho postgres 16.1\n")
        (tmp_path / program).chmod(0o755)
    assert binaries.find_postgres(search) == tmp_path
