"""Whether etcd answers: one verdict, one log line for each change of it."""

from __future__ import annotations

import time

from taskd.coordination.notifier import Notifier
from taskd.runtime.log import logger
from taskd.seams import Health


class Reachability:
    """Fed by the session's calls. A short stall is no outage: only `patience` seconds without an answer are."""

    def __init__(self, patience: float, endpoints: list[str], bell: Notifier) -> None:
        self.health = Health(ok=False, since=time.time(), detail="etcd has not answered yet")
        self._patience = patience
        self._endpoints = endpoints
        self._bell = bell
        self._answered: float | None = None
        self._told = False

    def answered(self) -> None:
        """etcd answered just now."""
        self._answered = time.monotonic()
        if self.health.ok:
            return
        away = round(time.time() - self.health.since, 1)
        self.health = Health(ok=True, since=time.time())
        if self._told:
            logger().info("etcd answers again", away_seconds=away)
        self._told = False
        self._bell.ring()

    def unanswered(self, reason: str) -> None:
        """A call came back without an answer."""
        if self.health.ok and self._answered is not None and time.monotonic() - self._answered < self._patience:
            return
        changed = self.health.ok
        since = time.time() if changed else self.health.since
        self.health = Health(ok=False, since=since, detail=reason)
        if not self._told:
            logger().warning("etcd is away; trying on", endpoints=self._endpoints, reason=reason)
            self._told = True
        if changed:
            self._bell.ring()
