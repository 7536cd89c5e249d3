"""Outages of servers: one log line when a server goes away, and one when it is back."""

from __future__ import annotations

import time

from taskd.domain.health import Health
from taskd.runtime.log import logger


class Outage:
    """The health of one server, as this process sees it. `gaps` counts its outages."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._down_since: float | None = None
        self._health = Health(ok=True, since=time.time())
        self.gaps = 0

    @property
    def health(self) -> Health:
        """The server's health as last seen."""
        return self._health

    def down(self, error: Exception) -> None:
        """Record that the server did not answer."""
        if self._down_since is None:
            self._down_since = time.monotonic()
            self.gaps += 1
            logger().warning(f"{self._server} is away; waiting for it", error=str(error))
        if self._health.ok or self._health.detail != str(error):
            since = time.time() if self._health.ok else self._health.since
            self._health = Health(ok=False, since=since, detail=str(error))

    def up(self) -> None:
        """Record that the server answered."""
        if self._down_since is not None:
            seconds = round(time.monotonic() - self._down_since, 1)
            logger().info(f"{self._server} is back", away_seconds=seconds)
            self._down_since = None
        if not self._health.ok:
            self._health = Health(ok=True, since=time.time())
