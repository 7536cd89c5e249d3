"""The log of a run's faults as they happen: `faults.ndjson`, and the lines on the screen."""

from __future__ import annotations

import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

import msgspec

from taskd.torture.checker.disturbance import ENDS
from taskd.torture.history import Fault

#: The number of latest faults that are kept for the screen.
SHOWN = 6
SERVERS = {"postgres": "PostgreSQL", "redis": "Redis", "etcd": "etcd"}
#: The faults' names on the screen.
DEEDS = {
    "SIGKILL": "killed",
    "SIGKILL executors": "executors killed",
    "SIGSTOP": "frozen",
    "SIGTERM": "asked to stop",
    "FLUSHALL": "emptied",
    "stop": "stopped",
}


class FaultLog:
    """Writes each fault, and each end of one, as a line. `counts` and `latest` may be read at any time."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self.counts: Counter[str] = Counter()
        #: (Unix time, what happened), the newest last.
        self.latest: deque[tuple[float, str]] = deque(maxlen=SHOWN)

    def note(self, what: str, target: str, suffix: str = "", **fields: Any) -> None:
        """Write one line. A fault is counted too, and shown with `suffix` after its name."""
        at = time.time()
        self._file.write(msgspec.json.encode({"at": at, "what": what, "target": target, **fields}) + b"\n")
        if what not in ENDS:
            self.counts[kind(what, target)] += 1
            self.latest.append((at, f"{SERVERS.get(target, target)} {DEEDS.get(what, what)}{suffix}"))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def kinds(faults: list[Fault]) -> Counter[str]:
    """Return the number of faults of each kind."""
    return Counter(kind(fault.what, fault.target) for fault in faults if fault.what not in ENDS)


def kind(what: str, target: str) -> str:
    """Return the kind of a fault, without the target's number: "worker killed"."""
    if what == "SIGKILL executors":
        return "executors killed"
    noun = SERVERS.get(target) or next((role for role in ("scheduler", "worker") if role in target), target)
    return f"{noun} {DEEDS.get(what, what)}"
