"""Carries out the planned faults without ever waiting: the supervisor of the cluster calls `step` again and again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence

import redis

from taskd.dev.process import executors
from taskd.torture.fault_plan import PlannedFault
from taskd.torture.faultlog import FaultLog
from taskd.torture.target import Target

#: Seconds that a fault waits for its target to be up; then it is left out.
PATIENCE = 10.0


class FaultInjector:
    """Injects planned faults into a target. Use it in the thread that started the processes.

    1. Record the ends and starts of processes. 2. Resume processes that were frozen long enough. 3. Inject the faults that are
    due.
    """

    def __init__(self, target: Target, faults: Sequence[PlannedFault], log: FaultLog) -> None:
        self._target = target
        self._log = log
        self._due = list(faults)
        self._begun: float | None = None
        #: By name: the end of the freeze, and the frozen processes.
        self._frozen: dict[str, tuple[float, list[int]]] = {}
        self._pids = {name: target.restarter(name).child.pid for name in target.members}
        self._down: set[str] = set()

    def begin(self) -> None:
        """Let the times of the faults count from now; before this, no fault is due."""
        self._begun = time.monotonic()

    def step(self) -> None:
        """Do everything that is due. Returns at once, raises nothing."""
        self._log_process_changes()
        now = time.monotonic()
        for name, (until, _) in list(self._frozen.items()):
            if now >= until:
                self._thaw(name)
        if self._begun is not None:
            self._inject_due(now - self._begun)

    def heal(self) -> None:
        """Resume all frozen processes, and drop the remaining faults."""
        self._due = []
        for name in list(self._frozen):
            self._thaw(name)

    # ---------------------------------------------------------------- faults

    def _inject_due(self, elapsed: float) -> None:
        waiting = []
        for fault in self._due:
            if fault.at <= elapsed and self._is_up(fault.target):
                self._inject(fault)
            elif elapsed < fault.at + PATIENCE:
                waiting.append(fault)
        self._due = waiting

    def _is_up(self, name: str) -> bool:
        return (
            name not in self._frozen and name not in self._down and self._target.restarter(name).child.pid is not None
        )

    def _inject(self, fault: PlannedFault) -> None:
        restarter = self._target.restarter(fault.target)
        pid = restarter.child.pid
        if pid is None:
            return  # it has died meanwhile
        match fault.what:
            case "SIGKILL":
                self._log.note(fault.what, fault.target, pid=pid)
                self._down.add(fault.target)
                restarter.child.kill()
            case "SIGTERM":
                self._log.note(fault.what, fault.target, pid=pid)
                restarter.child.signal(signal.SIGTERM)
            case "stop":
                self._log.note(fault.what, fault.target, f" for {fault.hold} s", pid=pid)
                self._down.add(fault.target)
                restarter.delay_restart(fault.hold)
                restarter.child.kill()
            case "SIGSTOP":
                self._freeze(fault, pid)
            case "SIGKILL executors":
                self._log.note(fault.what, fault.target)
                _signal_all(executors(pid), signal.SIGKILL)
            case "FLUSHALL":
                self._flush(fault.target)

    def _freeze(self, fault: PlannedFault, pid: int) -> None:
        # Without its guard: that would still be frozen when the resumed executors take their first steps.
        pids = [pid, *(executors(pid) if fault.whole else [])]
        suffix = f" for {fault.hold} s{', with its executors' if len(pids) > 1 else ''}"
        self._log.note("SIGSTOP", fault.target, suffix, pid=pid, pids=pids)
        self._frozen[fault.target] = time.monotonic() + fault.hold, pids
        _signal_all(pids, signal.SIGSTOP)

    def _thaw(self, name: str) -> None:
        _, pids = self._frozen.pop(name)
        _signal_all(pids, signal.SIGCONT)
        self._log.note("SIGCONT", name, pid=pids[0], pids=pids)

    def _flush(self, name: str) -> None:
        self._log.note("FLUSHALL", name)
        try:
            with self._target.redis() as client:
                client.flushall()
        except redis.RedisError:
            pass  # it was killed meanwhile, which empties it too
        self._log.note("heal", name)

    # ---------------------------------------------------------------- processes

    def _log_process_changes(self) -> None:
        for name, known in self._pids.items():
            child = self._target.restarter(name).child
            pid = child.pid
            if pid == known:
                continue
            if known is not None:
                self._log.note("exit", name, pid=known, status=child.exit_status)
            if pid is not None:
                self._log.note("start", name, pid=pid)
                self._down.discard(name)
            self._pids[name] = pid
        for name in [name for name in self._down if name not in self._pids and self._target.answers(name)]:
            self._down.discard(name)
            self._log.note("restart", name)


def _signal_all(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
