"""A temporary data folder for a cluster."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taskd.dev.folder import DataFolder


@contextmanager
def temporary_data(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """Yield a folder that is removed afterwards.

    Processes and folders that killed clusters left in `parent` under this prefix are ended and removed first.
    """
    parent = parent or Path(tempfile.gettempdir())
    for left in parent.glob(f"{prefix}*"):
        _sweep(left)
    made = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    made.chmod(0o755)  # PostgreSQL's user has to pass
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _sweep(left: Path) -> None:
    try:
        if left.is_symlink() or left.stat().st_uid != os.geteuid():
            return  # another user's folder: its pid files cannot be trusted
        with (left / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            DataFolder(left).end_leftovers()
            shutil.rmtree(left, ignore_errors=True)
    except OSError:
        return  # its cluster is running
