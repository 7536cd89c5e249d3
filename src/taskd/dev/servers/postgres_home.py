"""A home for PostgreSQL where its user may not enter the original folders, such as folders under /root.

PostgreSQL refuses root, and its user may not enter root's home. So root gives it a home under /var/lib/taskd-dev: copies of its
programs (one per version, 40 MB) and, if the data folder is closed to its user, the data, with a link from the data folder.
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
    """Return the folder of PostgreSQL's programs that `owner` can run: `binary`, or a copy. Raises ConfigurationError."""
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
    """Return the folder of the data: `folder` itself or, if `owner` may not enter it, the target of a link there.

    If the link is missing, the data of an earlier data folder at the same path are removed. Raises ConfigurationError.
    """
    if owner is None or closed_folder(folder.parent, owner) is None:
        return folder
    home = home or HOME
    home_data = home / f"data-{_digest(str(folder.absolute()))}"
    if not (folder.is_symlink() and folder.readlink() == home_data / folder.name):
        if folder.is_symlink():
            folder.unlink()
        _open_home(home, owner, folder)
        if home_data.exists():
            shutil.rmtree(home_data)
        _make_open(home_data)
        folder.symlink_to(home_data / folder.name)  # raises if data are there already: foreign data are never moved
    return home_data / folder.name


def _open_home(home: Path, owner: Owner, wanted: Path) -> None:
    """Make `home`, and check that `owner` may enter it. Raises ConfigurationError."""
    try:
        _make_open(home)
    except OSError as error:
        problem = f"{home} cannot be made ({error.strerror})"
    else:
        if (closed := closed_folder(home, owner)) is None:
            return
        problem = f"{closed} is closed to it too"
    raise ConfigurationError(
        f"PostgreSQL refuses to run as root, the user {owner.name!r} may not enter {closed_folder(wanted, owner)}, "
        f"and {problem}: run taskd as an ordinary user"
    )


def _copy_programs(prefix: Path, copy: Path) -> None:
    """Copy the programs, and the libraries that a wheel keeps beside its package. Atomic: no half copy is ever used."""
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
        if not copy.exists():  # else another `taskd dev` has made the copy meanwhile
            raise


def _make_open(folder: Path) -> None:
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o755)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
