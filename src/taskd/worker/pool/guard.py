"""The guard: a small process of its own that kills the executors when the worker's lease has run out.

The worker may be stopped (SIGSTOP, a debugger, a swapping machine) while its executors run on; by the time it goes on, another
worker may run the same jobs. So this process knows the lease's end beforehand and acts by itself. It also kills the executors
when its pipe from the worker ends, which means that the worker is gone.

Run as a plain file with `python -I -S`: the standard library only, and little of it.

Input records: `D` + the end of the lease (double, seconds of `clock`); `E` + a count (uint32) + (pid, start) pairs (int64).
Output: the pid (int64) of each executor, before it is killed for the lease.
"""

import contextlib
import os
import select
import signal
import struct
import sys
import time

DEADLINE = struct.Struct("<d")
COUNT = struct.Struct("<I")
PROCESS = struct.Struct("<qq")
REPORT = struct.Struct("<q")
#: Seconds: a suspended machine stops the timer of select but not the lease, so the clock is looked at this often.
LOOK = 0.5

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def clock() -> float:
    """Return seconds on the clock of leases: monotonic, and running while the machine is suspended where that is possible."""
    return time.clock_gettime(_CLOCK)


def start_time(pid: int) -> int | None:
    """Return when the process started, in clock ticks since boot; 0 where that cannot be known, None if it is gone."""
    if not sys.platform.startswith("linux"):
        return 0
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return None


def kill(pid: int, start: int) -> None:
    """SIGKILL the executor and the processes that it started, unless another process has its number by now."""
    if start_time(pid) in (start, None):
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it is gone already, with all that it started
            os.killpg(pid, signal.SIGKILL)


class Guard:
    """The guard's state: the lease's end and the executors."""

    def __init__(self) -> None:
        self.until = float("inf")
        self.executors: list[tuple[int, int]] = []
        self._buffer = b""

    def feed(self, data: bytes) -> None:
        """Apply the records that are complete with `data`."""
        self._buffer += data
        while (size := self._size()) and len(self._buffer) >= size:
            record, self._buffer = self._buffer[:size], self._buffer[size:]
            if record[:1] == b"D":
                (self.until,) = DEADLINE.unpack_from(record, 1)
            else:
                self.executors = [(pid, start) for pid, start in PROCESS.iter_unpack(record[1 + COUNT.size :])]

    def _size(self) -> int:
        """Return the length of the first record; 0 if that is not known yet."""
        if self._buffer[:1] == b"D":
            return 1 + DEADLINE.size
        if self._buffer[:1] not in (b"", b"D", b"E"):
            # The worker starts another guard, and sends that one the whole state.
            raise SystemExit("a record of an unknown kind")
        if self._buffer[:1] == b"E" and len(self._buffer) >= 1 + COUNT.size:
            return 1 + COUNT.size + PROCESS.size * int(COUNT.unpack_from(self._buffer, 1)[0])
        return 0

    def kill_all(self) -> None:
        """Kill all executors."""
        for pid, start in self.executors:
            kill(pid, start)


def watch(source: int, sink: int) -> None:
    """Guard until the pipe ends."""
    guard = Guard()
    while True:
        left = guard.until - clock()
        wait = None if left == float("inf") else max(0.0, min(left, LOOK))
        if select.select([source], [], [], wait)[0]:
            data = os.read(source, 65536)
            if not data:
                guard.kill_all()
                return
            guard.feed(data)
        elif left <= 0:  # and no renewal is left to read
            with contextlib.suppress(BrokenPipeError):
                # The report comes before the kill: when the worker sees an executor dead, the reason is there to be read.
                os.write(sink, b"".join(REPORT.pack(pid) for pid, _ in guard.executors))
            guard.kill_all()
            guard.until = float("inf")


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    watch(0, 1)
