"""Carries out the planned faults, without ever waiting: whoever keeps the cluster alive calls `step` again and again."""

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

#: A fault waits this long for its target to be up, then it is left out.
PATIENCE = 10.0


class FaultInjector:
    """Use it in the thread that started the processes. Duties: 1. strike what is due; 2. let go of what was held long enough;
    3. write down who ended and who is back.
    """

    def __init__(self, arena: Target, strikes: Sequence[PlannedFault], log: FaultLog) -> None:
        self._arena = arena
        self._log = log
        self._due = list(strikes)
        self._begun: float | None = None
        #: By target: until when it is frozen, and which processes are.
        self._frozen: dict[str, tuple[float, list[int]]] = {}
        self._pids = {name: arena.keeper(name).child.pid for name in arena.members}
        self._down: set[str] = set()

    def begin(self) -> None:
        """The times of the faults count from now; before, there are none."""
        self._begun = time.monotonic()

    def step(self) -> None:
        """Do what is due. Returns at once, raises nothing."""
        self._witness()
        now = time.monotonic()
        for target, (until, _) in list(self._frozen.items()):
            if now >= until:
                self._thaw(target)
        if self._begun is not None:
            self._strike_due(now - self._begun)

    def heal(self) -> None:
        """Let go of everything; nothing more will be done."""
        self._due = []
        for target in list(self._frozen):
            self._thaw(target)

    # ---------------------------------------------------------------- faults

    def _strike_due(self, elapsed: float) -> None:
        waiting = []
        for strike in self._due:
            if strike.at <= elapsed and self._is_up(strike.target):
                self._strike(strike)
            elif elapsed < strike.at + PATIENCE:
                waiting.append(strike)
        self._due = waiting

    def _is_up(self, target: str) -> bool:
        return (
            target not in self._frozen and target not in self._down and self._arena.keeper(target).child.pid is not None
        )

    def _strike(self, strike: PlannedFault) -> None:
        keeper = self._arena.keeper(strike.target)
        pid = keeper.child.pid
        if pid is None:
            return  # it died a moment ago, by itself
        match strike.what:
            case "SIGKILL":
                self._log.note(strike.what, strike.target, pid=pid)
                self._down.add(strike.target)
                keeper.child.kill()
            case "SIGTERM":
                self._log.note(strike.what, strike.target, pid=pid)
                keeper.child.signal(signal.SIGTERM)
            case "stop":
                self._log.note(strike.what, strike.target, f" for {strike.hold} s", pid=pid)
                self._down.add(strike.target)
                keeper.rest(strike.hold)
                keeper.child.kill()
            case "SIGSTOP":
                self._freeze(strike, pid)
            case "SIGKILL executors":
                self._log.note(strike.what, strike.target)
                _signal_all(executors(pid), signal.SIGKILL)
            case "FLUSHALL":
                self._flush(strike.target)

    def _freeze(self, strike: PlannedFault, pid: int) -> None:
        # Without its guard: that would still be frozen when the thawed executors take their first steps.
        pids = [pid, *(executors(pid) if strike.whole else [])]
        told = f" for {strike.hold} s{', with its executors' if len(pids) > 1 else ''}"
        self._log.note("SIGSTOP", strike.target, told, pid=pid, pids=pids)
        self._frozen[strike.target] = time.monotonic() + strike.hold, pids
        _signal_all(pids, signal.SIGSTOP)

    def _thaw(self, target: str) -> None:
        _, pids = self._frozen.pop(target)
        _signal_all(pids, signal.SIGCONT)
        self._log.note("SIGCONT", target, pid=pids[0], pids=pids)

    def _flush(self, target: str) -> None:
        self._log.note("FLUSHALL", target)
        try:
            with self._arena.redis() as client:
                client.flushall()
        except redis.RedisError:
            pass  # it was killed meanwhile, which is the same to everybody
        self._log.note("heal", target)

    # ---------------------------------------------------------------- witness

    def _witness(self) -> None:
        for name, known in self._pids.items():
            child = self._arena.keeper(name).child
            pid = child.pid
            if pid == known:
                continue
            if known is not None:
                self._log.note("exit", name, pid=known, status=child.exit_status)
            if pid is not None:
                self._log.note("start", name, pid=pid)
                self._down.discard(name)
            self._pids[name] = pid
        for name in [name for name in self._down if name not in self._pids and self._arena.answers(name)]:
            self._down.discard(name)
            self._log.note("restart", name)


def _signal_all(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
