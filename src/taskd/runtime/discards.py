"""Counts unusable values that other programs left in Redis, in etcd or in messages, and logs them at a bounded rate."""

from __future__ import annotations

import time
from typing import Any

from taskd.runtime import meters
from taskd.runtime.log import logger

#: Seconds between two log lines about the same kind and key.
EVERY = 60.0
#: The most kinds and keys that are remembered. Further ones share one line in EVERY seconds.
KINDS = 1000
#: Characters of foreign text in a log line or a message.
SHOWN = 120


class Discards:
    """One counter for each source and kind, and at most one log line for each kind and key in EVERY seconds."""

    def __init__(self) -> None:
        self._logged: dict[tuple[str, str, str], tuple[float, int]] = {}

    def note(self, source: str, kind: str, key: str = "", count: int = 1, **facts: Any) -> None:
        """Count discarded values of `source` ("redis", "etcd"); `kind` describes them, `key` is their place."""
        meters.DISCARDED.labels(source, kind).inc(count)
        place = source, kind, key
        if place not in self._logged and len(self._logged) >= KINDS:
            place = source, kind, ""
        now = time.monotonic()
        last, unlogged = self._logged.get(place, (-EVERY, 0))
        if now - last < EVERY:
            self._logged[place] = last, unlogged + count
            return
        self._logged[place] = now, 0
        named = {"key": shown(key)} if key else {}
        logger().warning(f"{source}: discarded {kind}", **named, values=unlogged + count, **facts)


def shown(text: object, limit: int = SHOWN) -> str:
    """Return foreign text as printable ASCII of at most `limit` characters."""
    return ascii(str(text)[:limit])[1:-1][:limit]


_DISCARDS = Discards()
#: The process's own counter.
discard = _DISCARDS.note
