"""A place for PostgreSQL where the user it runs as cannot go: run by root, from a folder under /root, say.

It refuses root, and its user may not enter root's home. So root gives it a place under /var/lib/taskd-dev: copies of its
programs (once a version, 40 MB) and, for a data folder that is closed to it, the data, with a link from where they belong.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from taskd.dev.servers.owner import Owner, closed_folder
from taskd.domain.errors import ConfigurationError

HOME = Path("/var/lib/taskd-dev")


def programs(binary: Path, owner: Owner | None, home: Path | None = None) -> Path:
    """The folder of PostgreSQL's programs that `owner` can run: `binary`, or a copy. Raises ConfigurationError."""
    if owner is None or closed_folder(binary, owner) is None:
        return binary
    home, prefix = home or HOME, binary.parent
    made = (binary / "postgres").stat().st_mtime_ns
    copy = home / f"programs-{_digest(f'{prefix}:{made}')}"
    if not copy.exists():
        _open_home(home, owner, binary)
        _copy_programs(prefix, copy)
    return copy / prefix.parent.name / prefix.name / binary.name


def data(folder: Path, owner: Owner | None, home: Path | None = None) -> Path:
    """Where the data of `folder` are: there, or, if `owner` cannot go there, where a link there points.

    Without the link, what an earlier data folder at the same place left behind is removed. Raises ConfigurationError.
    """
    if owner is None or closed_folder(folder.parent, owner) is None:
        return folder
    home = home or HOME
    lodging = home / f"data-{_digest(str(folder.absolute()))}"
    if not (folder.is_symlink() and folder.readlink() == lodging / folder.name):
        if folder.is_symlink():
            folder.unlink()
        _open_home(home, owner, folder)
        if lodging.exists():
            shutil.rmtree(lodging)
        _make_open(lodging)
        folder.symlink_to(lodging / folder.name)  # raises if data lie there already: those are not ours to move
    return lodging / folder.name


def _open_home(home: Path, owner: Owner, wanted: Path) -> None:
    """Make `home`, and see that `owner` can go there."""
    try:
        _make_open(home)
    except OSError as error:
        trouble = f"{home} cannot be made ({error.strerror})"
    else:
        if (closed := closed_folder(home, owner)) is None:
            return
        trouble = f"{closed} is closed to it too"
    raise ConfigurationError(
        f"PostgreSQL refuses to run as root, the user {owner.name!r} may not enter {closed_folder(wanted, owner)}, "
        f"and {trouble}: run taskd as an ordinary user"
    )


def _copy_programs(prefix: Path, copy: Path) -> None:
    """Copy what runs, and the libraries that a wheel keeps beside its package; in one step, so that no half copy is used."""
    making = Path(tempfile.mkdtemp(prefix="making-", dir=copy.parent))
    making.chmod(0o755)
    for part in ("bin", "lib", "share"):
        if (prefix / part).is_dir():
            shutil.copytree(prefix / part, making / prefix.parent.name / prefix.name / part, symlinks=True)
    libraries = prefix.parent.with_name(f"{prefix.parent.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, making / libraries.name)
    for folder, _, _ in os.walk(making):
        Path(folder).chmod(0o755)
    try:
        making.rename(copy)
    except OSError:
        shutil.rmtree(making)
        if not copy.exists():  # else another `taskd dev` was quicker
            raise


def _make_open(folder: Path) -> None:
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o755)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
