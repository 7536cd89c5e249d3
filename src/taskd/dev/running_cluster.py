"""The file `cluster.json` in a data folder, by which other commands find the dev cluster that runs there.

The file has ports and no addresses, so that it cannot lead a command to another machine. It is trusted only if folder and
file belong to this user or to root, no other user may write to them, and the process that wrote the file still runs.
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
#: The default data folder of `taskd dev`, and so the folder where other commands look.
DEFAULT_FOLDER = Path(".taskd")
#: Bytes; a real file has a fraction of it.
LARGEST = 64 * 1024

Port = Annotated[int, Meta(ge=1, le=65535)]
Place = tuple[str, str]


class RunningCluster(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ports of a running dev cluster's servers and schedulers, and the process that runs it."""

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
        """PostgreSQL's connection string, without TLS even if PGSSLMODE asks for it: the server is on loopback."""
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
    """Write the cluster's file atomically."""
    unfinished = folder / f"{FILE}.new"
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(msgspec.json.encode(cluster))
    unfinished.replace(folder / FILE)


def forget(folder: Path) -> None:
    """Remove the cluster's file."""
    (folder / FILE).unlink(missing_ok=True)


def find(folder: Path = DEFAULT_FOLDER) -> RunningCluster | None:
    """Return the cluster that runs with its data in `folder`; None if there is none, or if it cannot be trusted."""
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
        cluster = msgspec.json.decode(text or b"", type=RunningCluster)
    except (msgspec.DecodeError, ValueError):
        return None
    return cluster if cluster.pid > 0 and identity(cluster.pid) == cluster.identity else None


def require(folder: Path) -> RunningCluster:
    """Return the cluster as `find` does. Raises ConfigurationError if there is none."""
    cluster = find(folder)
    if cluster is None:
        raise ConfigurationError(f"no dev cluster of yours is running in {folder}: start one with taskd dev")
    return cluster


def _read(folder: int) -> bytes | None:
    # Without blocking: a FIFO in place of the file must not stop this process.
    with os.fdopen(os.open(FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder), "rb") as file:
        status = os.fstat(file.fileno())
        return file.read(LARGEST) if stat.S_ISREG(status.st_mode) and _trusted(status) else None


def _trusted(status: os.stat_result) -> bool:
    return status.st_uid in (os.geteuid(), 0) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
