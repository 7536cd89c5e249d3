"""The faults of a run as they happen: `faults.ndjson`, and what a person is told of them."""

from __future__ import annotations

import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

import msgspec

from taskd.torture.checker.disturbance import ENDS
from taskd.torture.history import Fault

#: How many are kept to be shown.
SHOWN = 6
SERVERS = {"postgres": "PostgreSQL", "redis": "Redis", "etcd": "etcd"}
#: In the words of people.
DEEDS = {
    "SIGKILL": "killed",
    "SIGKILL executors": "executors killed",
    "SIGSTOP": "frozen",
    "SIGTERM": "told to stop",
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

    def note(self, what: str, target: str, told: str = "", **fields: Any) -> None:
        """Write one down; a fault is counted, and shown with `told` after it."""
        at = time.time()
        self._file.write(msgspec.json.encode({"at": at, "what": what, "target": target, **fields}) + b"\n")
        if what not in ENDS:
            self.counts[kind(what, target)] += 1
            self.latest.append((at, f"{SERVERS.get(target, target)} {DEEDS.get(what, what)}{told}"))

    def close(self) -> None:
        """No more faults."""
        self._file.close()


def kinds(faults: list[Fault]) -> Counter[str]:
    """How many there were of each kind."""
    return Counter(kind(fault.what, fault.target) for fault in faults if fault.what not in ENDS)


def kind(what: str, target: str) -> str:
    """What was done to what, without the number: "worker killed"."""
    if what == "SIGKILL executors":
        return "executors killed"
    noun = SERVERS.get(target) or next((role for role in ("scheduler", "worker") if role in target), target)
    return f"{noun} {DEEDS.get(what, what)}"
