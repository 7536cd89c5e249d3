"""A process of the sandbox: a scheduler or worker, with the checks of its readiness."""

from __future__ import annotations

import time
from typing import NamedTuple

from taskd.dev import process_spec
from taskd.dev.child_process import ChildProcess
from taskd.dev.members import fetch
from taskd.dev.process import PROC, is_stopped
from taskd.dev.restarter import describe
from taskd.domain.errors import TaskdError

READY_DEADLINE = 120.0


class SandboxProcess(NamedTuple):
    """A process of the sandbox, and its specification."""

    child: ChildProcess
    spec: process_spec.ProcessSpec

    @property
    def serves(self) -> bool:
        """True if this worker takes jobs: it answers and does not drain.

        A process that was just killed may exist for a moment longer, but it answers no new request.
        """
        deadline = time.monotonic() + READY_DEADLINE
        while (pid := self.child.pid) is not None and time.monotonic() < deadline:
            stats = fetch(self.spec.port, "/metrics")
            if stats is not None:
                return not stats.get("draining")
            if PROC.exists() and is_stopped(pid):
                return False
            time.sleep(0.02)
        return False


def await_ready(process: SandboxProcess, field: str) -> None:
    """Return when the process answers and this field of its health is true. Raises TaskdError."""
    child, deadline = process.child, time.monotonic() + READY_DEADLINE
    while not (fetch(process.spec.port, "/health") or {}).get(field):
        if child.pid is None:
            last = next((line for line in reversed(child.output().splitlines()) if line.strip()), "it logged nothing")
            raise TaskdError(
                f"{child.name} ended at once ({describe(child.exit_status)}): {last.removeprefix('error: ')}"
            )
        if time.monotonic() > deadline:
            raise TaskdError(f"{child.name} did not answer within {READY_DEADLINE:.0f} s: {child.output()[-500:]}")
        time.sleep(0.02)
