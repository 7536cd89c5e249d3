"""The children's logs: filters for the messages that are shown on the terminal, and a reader that follows a file."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

LOUD = frozenset({"warning", "error", "critical"})
#: Events that are shown although they are no warnings.
REPORTED_EVENTS = frozenset({"reloaded"})
#: A message that repeats is shown once in this many seconds.
QUIET_FOR = 5.0
#: Fields of each log line that the terminal does not show.
ROUTINE = frozenset({"event", "level", "timestamp", "role", "instance", "exception"})

Interpreter = Callable[[str], str | None]


def taskd_warning(line: str) -> str | None:
    """Return the message of a taskd process's log line if it is a warning or worse. Other text is returned unchanged."""
    try:
        entry = msgspec.json.decode(line, type=dict[str, object])
    except msgspec.DecodeError:
        return line.rstrip() or None
    if entry.get("level") not in LOUD and entry.get("event") not in REPORTED_EVENTS:
        return None
    context = " ".join(f"{name}={_last_line(value)}" for name, value in entry.items() if name not in ROUTINE)
    return f"{entry.get('event', '')} {context}".strip()


def _last_line(value: object) -> str:
    """Return the last line of a text, as a traceback ends with its error."""
    return (str(value).strip().splitlines() or [""])[-1]


_POSTGRES = re.compile(r"(?:FATAL|PANIC|WARNING): +(?! |the database system is|terminating connection)(.*)")


def postgres_warning(line: str) -> str | None:
    """Return PostgreSQL's warnings about itself, without the errors that clients get in an outage and report."""
    match = _POSTGRES.search(line)
    return match.group(1) if match else None


def etcd_warning(line: str) -> str | None:
    """Return etcd's errors. Its warnings are mostly about slow disks."""
    try:
        entry = msgspec.json.decode(line, type=dict[str, object])
    except msgspec.DecodeError:
        return None
    return str(entry.get("msg", line)) if entry.get("level") in {"error", "panic", "fatal"} else None


def no_warning(_line: str) -> None:
    """Return None: for servers whose logs hold nothing for the terminal."""


class Tail:
    """Follows one log file from its present end."""

    def __init__(self, file: Path, interpret: Interpreter) -> None:
        self._file = file
        self._interpret = interpret
        self._position = file.stat().st_size if file.exists() else 0
        self._rest = b""
        self._shown: dict[str, tuple[float, int]] = {}

    def messages(self) -> Iterator[str]:
        """Yield the messages since the last call; repeats are left out and counted."""
        for line in self._lines():
            message = self._interpret(line)
            if message is not None:
                yield from self._unless_repeated(message)

    def _lines(self) -> list[str]:
        if not self._file.exists():
            return []
        with self._file.open("rb") as file:
            if file.seek(0, 2) < self._position:  # the file was moved aside, and a new one begun
                self._position = 0
            file.seek(self._position)
            text = self._rest + file.read()
            self._position = file.tell()
        *lines, self._rest = text.split(b"\n")
        return [line.decode("utf-8", errors="replace") for line in lines]

    def _unless_repeated(self, message: str) -> Iterator[str]:
        key = re.sub(r"\d+", "0", message)
        now = time.monotonic()
        last, hidden = self._shown.get(key, (-QUIET_FOR, 0))
        if now - last < QUIET_FOR:
            self._shown[key] = (last, hidden + 1)
            return
        self._shown[key] = (now, 0)
        yield f"{message} (and {hidden} more like it)" if hidden else message
