"""A schedule that fires each second while the torture goes on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import cycle
from typing import Any

import httpx

NAME = "torture-pulse"
#: Seconds that a scheduler may take to answer.
PATIENCE = 2.0


class ScheduleProbe:
    """Asks one scheduler after the other; each call asks once, and says whether it is done."""

    def __init__(self, urls: Sequence[str], queue: str) -> None:
        self._urls = cycle(urls)
        self._plan = {"every": 1, "job": {"task": "nap", "queue": queue, "payload": {"seconds": 0.02}}}

    def start(self) -> bool:
        """Make the schedule."""
        return self._ask("PUT", f"/schedules/{NAME}", self._plan) in (200, 201)

    def stop(self) -> bool:
        """Pause it, if it was made: what it has fired stays to be looked at."""
        return self._ask("POST", f"/schedules/{NAME}/pause") in (200, 404)

    def _ask(self, method: str, path: str, body: Any = None) -> int:
        token = os.environ.get("TASKD_TOKEN")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            return httpx.request(
                method, f"{next(self._urls)}{path}", json=body, timeout=PATIENCE, headers=headers
            ).status_code
        except httpx.HTTPError:
            return 0
