"""A false clock for one server, set by the test, where libfaketime is installed (Debian: apt install faketime).

Only the wall clock is false; the monotonic clocks stay true. Running processes see each jump.

One limit: signal handlers see the true time. So while the false clock is ahead of the true one, PostgreSQL's own
time-outs (lock_timeout, statement_timeout, deadlock_timeout) do not fire in a waiting backend. While it is behind,
they do fire, but one that fires takes all others that are set with it. To jump forward with working time-outs, start
far behind the true time and jump to less far behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taskd.dev.servers.postgres import PostgresServer

LIBRARY = "libfaketime.so.1"
FOLDERS = ("/usr/lib", "/usr/lib64", "/usr/local/lib")
SHARED = Path("/dev/shm")


def available() -> str | None:
    """Return None if clocks can be set here, else the reason why not."""
    return None if _library() else f"{LIBRARY} is not installed (Debian: apt install faketime)"


def environment(rc_file: Path) -> dict[str, str]:
    """Return the variables that give a program the clock which `jump(rc_file, ...)` sets; at first it is true.

    The program's user must be able to read `rc_file`.
    """
    library = _library()
    assert library is not None, available()
    _sweep()
    if not rc_file.exists():
        jump(rc_file, 0)
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(rc_file),
        "FAKETIME_NO_CACHE": "1",
        # The two names of one option, of an older and a newer libfaketime.
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def jump(rc_file: Path, seconds: float) -> None:
    """Set the clock to `seconds` ahead of the true time, or behind it if negative."""
    fresh = rc_file.with_name(f"{rc_file.name}.new")
    fresh.write_text(f"{seconds:+f}\n", "ascii")
    fresh.chmod(0o644)
    fresh.replace(rc_file)


@contextmanager
def postgres(binaries: Path, folder: Path, rc_file: Path) -> Iterator[PostgresServer]:
    """Run a PostgreSQL with the clock of `rc_file`, with its files under `folder`."""
    server = PostgresServer(
        binaries, folder / "postgres", log=folder / "postgres.log", extra_environment=environment(rc_file)
    )
    server.start()
    yield server
    server.stop()


def _library() -> Path | None:
    paths = (path for folder in FOLDERS for path in sorted(Path(folder).glob(f"**/faketime/{LIBRARY}")))
    return next(paths, None)


def _sweep() -> None:
    """Remove the shared memory of killed programs.

    Otherwise a later program with the same pid and another user would not start.
    """
    for kind in ("faketime_shm_", "sem.faketime_sem_"):
        for path in SHARED.glob(f"{kind}*"):
            if not Path(f"/proc/{path.name.removeprefix(kind)}").exists():
                path.unlink(missing_ok=True)
