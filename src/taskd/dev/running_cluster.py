"""The dev cluster of a data folder as other commands find it: its file `cluster.json`, and if it still runs.

The file has ports and no addresses: whoever believes it stays on this machine. It is believed only if the folder and the
file belong to this user or to root and nobody else may write to them, and if the process that wrote it still runs.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from taskd.dev.process import identity
from taskd.dev.servers.ports import LOOPBACK
from taskd.domain.errors import ConfigurationError

FILE = "cluster.json"
#: Where `taskd dev` keeps its data unless told otherwise, and so where other commands look.
DEFAULT_FOLDER = Path(".taskd")
#: Bytes: a file of ours has a fraction of it.
LARGEST = 64 * 1024

Port = Annotated[int, Meta(ge=1, le=65535)]
Place = tuple[str, str]


class RunningCluster(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the servers and schedulers of a running dev cluster listen, and whose process runs it."""

    pid: int
    identity: str
    schedulers: Annotated[list[Port], Meta(min_length=1)]
    postgres: Port
    redis: Port
    etcd: Port

    @property
    def urls(self) -> list[str]:
        """Each scheduler's address."""
        return [f"http://localhost:{port}" for port in self.schedulers]

    @property
    def dsn(self) -> str:
        """PostgreSQL's connection string. The server is on loopback and speaks plain text, whatever PGSSLMODE says."""
        return f"postgresql://taskd@{LOOPBACK}:{self.postgres}/taskd?sslmode=disable"

    @property
    def settings(self) -> dict[Place, str]:
        """The settings, by section and key, with which taskd finds the three servers."""
        return {
            ("postgres", "dsn"): self.dsn,
            ("redis", "url"): f"redis://{LOOPBACK}:{self.redis}",
            ("etcd", "endpoints"): f"{LOOPBACK}:{self.etcd}",
        }

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables for a shell."""
        return {
            "POSTGRES_DSN": self.settings["postgres", "dsn"],
            "REDIS_URL": self.settings["redis", "url"],
            "ETCD_ENDPOINTS": self.settings["etcd", "endpoints"],
            "TASKD_SERVER": ",".join(self.urls),
        }


def write(folder: Path, cluster: RunningCluster) -> None:
    """Tell other commands of this cluster, in one step."""
    making = folder / f"{FILE}.new"
    making.unlink(missing_ok=True)
    with os.fdopen(os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(msgspec.json.encode(cluster))
    making.replace(folder / FILE)


def forget(folder: Path) -> None:
    """Tell nobody any more."""
    (folder / FILE).unlink(missing_ok=True)


def find(folder: Path = DEFAULT_FOLDER) -> RunningCluster | None:
    """The cluster that runs with its data in `folder`; None if there is none, or none that this user may trust."""
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        if not _trusted(os.fstat(opened)):
            return None
        text = _read(opened)
    except OSError:
        return None
    finally:
        os.close(opened)
    try:
        found = msgspec.json.decode(text or b"", type=RunningCluster)
    except (msgspec.DecodeError, ValueError):
        return None
    return found if found.pid > 0 and identity(found.pid) == found.identity else None


def require(folder: Path) -> RunningCluster:
    """As `find`. Raises ConfigurationError if there is none."""
    found = find(folder)
    if found is None:
        raise ConfigurationError(f"no dev cluster of yours is running in {folder}: start one with taskd dev")
    return found


def _read(folder: int) -> bytes | None:
    # Not blocking: a FIFO in place of the file must not hold us up.
    with os.fdopen(os.open(FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder), "rb") as file:
        status = os.fstat(file.fileno())
        return file.read(LARGEST) if stat.S_ISREG(status.st_mode) and _trusted(status) else None


def _trusted(status: os.stat_result) -> bool:
    return status.st_uid in (os.geteuid(), 0) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
