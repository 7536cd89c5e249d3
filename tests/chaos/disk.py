"""A small disk that a test can fill: a separate tmpfs, for root on Linux."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

MOUNTS = Path("/proc/self/mounts")
#: Prefix of the mounts' names. The pid of the mounting process follows, so that mounts of killed processes are found.
NAME = "taskd-tests-disk"
PAGE = 4096


class SmallDisk:
    """Disk of `size` bytes at `folder`, which other users may pass through. The end of the context removes it."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self._size = size

    def __enter__(self) -> SmallDisk:
        _sweep()
        self.folder.mkdir(mode=0o711)
        _mount(self.folder, self._size)
        return self

    def __exit__(self, *exc: object) -> None:
        _unmount(self.folder)
        self.folder.rmdir()

    def fill(self) -> None:
        """Take all free space. Call it again if other files have freed some since."""
        file = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            for size in (256 * PAGE, PAGE):
                while _append(file, size):
                    pass
        finally:
            os.close(file)

    def free(self) -> None:
        """Free the space that `fill` took."""
        self._ballast.unlink(missing_ok=True)

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"


@cache
def available() -> str | None:
    """Return None if a disk can be made here, else the reason why not."""
    if not sys.platform.startswith("linux"):
        return "a small disk is a tmpfs, and this is not Linux"
    if os.geteuid() != 0:
        return "only root can mount a small disk"
    with tempfile.TemporaryDirectory(prefix=NAME) as folder:
        try:
            _mount(Path(folder), PAGE)
        except (OSError, subprocess.CalledProcessError) as error:
            message = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else str(error)
            return f"no tmpfs can be mounted here: {message}"
        _unmount(Path(folder))
    return None


def _append(file: int, size: int) -> bool:
    """Return False if there was no space for all bytes."""
    try:
        return os.write(file, bytes(size)) == size
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return False
        raise


def _mount(folder: Path, size: int) -> None:
    options = f"size={size},mode=0711,nosuid,nodev"
    _run("mount", "-t", "tmpfs", "-o", options, f"{NAME}-{os.getpid()}", str(folder))


def _unmount(folder: Path) -> None:
    """Hide the mount at once; the kernel frees it when the last process has closed its files."""
    _run("umount", "--lazy", str(folder))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def _sweep() -> None:
    """Unmount the disks of killed processes."""
    for line in MOUNTS.read_text().splitlines():
        name, folder = line.split()[:2]
        pid = name.removeprefix(f"{NAME}-")
        if pid != name and not Path(f"/proc/{pid}").exists():
            _unmount(Path(folder))
