"""The key schema. PREFIX is REDIS_STREAM_NAME (`jobs`).

    PREFIX:{QUEUE}:BAND     stream    entries of one queue and band of priorities; read high band first
    PREFIX:incarnation      string    a random id; gone or changed: Redis lost its memory
    PREFIX:leader           string    LeaderView as JSON, with a time to live
    PREFIX:wake             channel   "there may be work to dispatch"

The braces are a hash tag: all bands of one queue share a slot of a Redis Cluster.
"""

from __future__ import annotations

from collections.abc import Iterable

#: Four bands: priorities 75-100, 50-74, 25-49, 0-24.
BANDS = (3, 2, 1, 0)


def band(priority: int) -> int:
    """The band of a priority (0-100)."""
    return min(priority // 25, BANDS[0])


class Keys:
    """All keys of one taskd cluster."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.incarnation = f"{prefix}:incarnation"
        self.view = f"{prefix}:leader"
        self.wake = f"{prefix}:wake"

    def stream(self, queue: str, band: int) -> str:
        """The stream of one queue and band."""
        return f"{self._prefix}:{{{queue}}}:{band}"

    def streams(self, queues: Iterable[str]) -> list[str]:
        """The streams of these queues, urgent bands first."""
        queues = list(queues)
        return [self.stream(queue, band) for band in BANDS for queue in queues]
