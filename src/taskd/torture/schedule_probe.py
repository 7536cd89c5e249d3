"""A schedule that fires each second during a run."""

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
    """Makes and pauses the schedule. Each call sends one request, to one scheduler after the other, and returns its success."""

    def __init__(self, urls: Sequence[str], queue: str) -> None:
        self._urls = cycle(urls)
        self._plan = {"every": 1, "job": {"task": "nap", "queue": queue, "payload": {"seconds": 0.02}}}

    def start(self) -> bool:
        """Make the schedule. Return True once it is made."""
        return self._ask("PUT", f"/schedules/{NAME}", self._plan) in (200, 201)

    def stop(self) -> bool:
        """Pause the schedule, if it was made. Its fires stay, so that they can be checked."""
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
