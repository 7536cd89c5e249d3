"""A clock of one server's own that a test can set, by libfaketime where that is installed (Debian: apt install faketime).

Only the wall clock is false; the monotonic clocks go on as they are. Processes that run already see each jump. One thing is
not as with a real clock: signal handlers see the true time. So while its clock is ahead of the true one, PostgreSQL's own
time-outs (lock_timeout, statement_timeout, deadlock_timeout) do not fire in a backend that waits. Behind it they do, though one
that fires takes all others that are set with it. To jump forward with time-outs that work, start far behind and jump to less
far behind.
"""

from __future__ import annotations

from pathlib import Path

LIBRARY = "libfaketime.so.1"
FOLDERS = ("/usr/lib", "/usr/lib64", "/usr/local/lib")
SHARED = Path("/dev/shm")


def available() -> str | None:
    """None if clocks can be set here, else why not."""
    return None if _library() else f"{LIBRARY} is not installed (Debian: apt install faketime)"


def environment(rc_file: Path) -> dict[str, str]:
    """The variables under which a program goes by the clock that `jump(rc_file, ...)` sets; at first it is right.

    Whoever the program runs as must be able to read `rc_file`.
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
        # One name for each generation of the library.
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def jump(rc_file: Path, seconds: float) -> None:
    """Set the clock to so many seconds ahead of the true time, or behind it if negative."""
    fresh = rc_file.with_name(f"{rc_file.name}.new")
    fresh.write_text(f"{seconds:+f}\n", "ascii")
    fresh.chmod(0o644)
    fresh.replace(rc_file)


def _library() -> Path | None:
    found = (path for folder in FOLDERS for path in sorted(Path(folder).glob(f"**/faketime/{LIBRARY}")))
    return next(found, None)


def _sweep() -> None:
    """Remove what killed programs left in shared memory: a later one with the same pid and another user would not start."""
    for kind in ("faketime_shm_", "sem.faketime_sem_"):
        for left in SHARED.glob(f"{kind}*"):
            if not Path(f"/proc/{left.name.removeprefix(kind)}").exists():
                left.unlink(missing_ok=True)
