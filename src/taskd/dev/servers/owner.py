"""The user that PostgreSQL runs as: it refuses root, so root runs it as an unprivileged user that exists already."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import msgspec

from taskd.domain.errors import ConfigurationError

#: Tried in this order. All of them come with the operating system or with its PostgreSQL package.
UNPRIVILEGED = ("postgres", "nobody", "daemon")


class Owner(msgspec.Struct, frozen=True):
    """A user other than this process's."""

    name: str
    uid: int
    gid: int


def unprivileged() -> Owner | None:
    """Return the user to run PostgreSQL as; None means this process's user. Raises ConfigurationError if root finds none."""
    if os.geteuid() != 0:
        return None
    for name in UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Owner(name, entry.pw_uid, entry.pw_gid)
    raise ConfigurationError(
        f"PostgreSQL refuses to run as root, and none of the users {', '.join(UNPRIVILEGED)} exists: run taskd as another user"
    )


def closed_folder(path: Path, owner: Owner) -> Path | None:
    """Return the first folder on the way to `path` that `owner` may not enter; None if there is none."""
    for folder in [*reversed(path.resolve().parents), path.resolve()]:
        if not folder.is_dir():
            continue
        info = folder.stat()
        if info.st_uid == owner.uid:
            bit = stat.S_IXUSR
        elif info.st_gid == owner.gid:
            bit = stat.S_IXGRP
        else:
            bit = stat.S_IXOTH
        if not info.st_mode & bit:
            return folder
    return None
