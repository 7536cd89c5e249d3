"""Reachability of etcd: one verdict for the process, and one log line for each change."""

from __future__ import annotations

import time

from taskd.coordination.notifier import Notifier
from taskd.runtime.log import logger
from taskd.seams import Health


class Reachability:
    """The verdict, from the session's calls. Only `patience` seconds without an answer are an outage, a short stall is none."""

    def __init__(self, patience: float, endpoints: list[str], notifier: Notifier) -> None:
        self.health = Health(ok=False, since=time.time(), detail="etcd has not answered yet")
        self._patience = patience
        self._endpoints = endpoints
        self._notifier = notifier
        self._answered: float | None = None
        self._reported = False

    def answered(self) -> None:
        """Record an answer of etcd."""
        self._answered = time.monotonic()
        if self.health.ok:
            return
        away = round(time.time() - self.health.since, 1)
        self.health = Health(ok=True, since=time.time())
        if self._reported:
            logger().info("etcd answers again", away_seconds=away)
        self._reported = False
        self._notifier.notify()

    def unanswered(self, reason: str) -> None:
        """Record a call without an answer."""
        if self.health.ok and self._answered is not None and time.monotonic() - self._answered < self._patience:
            return
        changed = self.health.ok
        since = time.time() if changed else self.health.since
        self.health = Health(ok=False, since=since, detail=reason)
        if not self._reported:
            logger().warning("etcd is away; retrying", endpoints=self._endpoints, reason=reason)
            self._reported = True
        if changed:
            self._notifier.notify()
