"""The key schema. PREFIX is REDIS_STREAM_NAME (`jobs`).

    PREFIX:{QUEUE}:LOW      stream    entries of one queue and one band of priorities (LOW is its lowest); read high to low
    PREFIX:incarnation      string    a random id; gone or changed: Redis lost its data
    PREFIX:leader           string    LeaderView as JSON, with a time to live
    PREFIX:probe            string    written now and then to see that writes are accepted; `taskd doctor` also publishes there
    PREFIX:wake             channel   "there may be work to dispatch"
    PREFIX:cancel           channel   ids of jobs that were cancelled while they ran, separated by commas

The braces are a hash tag: all bands of one queue share a slot of a Redis Cluster.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from taskd.domain.band import BANDS, Band


class RedisKeys:
    """All keys of one taskd cluster."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.incarnation = f"{prefix}:incarnation"
        self.view = f"{prefix}:leader"
        self.probe = f"{prefix}:probe"
        self.wake = f"{prefix}:wake"
        self.cancel = f"{prefix}:cancel"

    def stream(self, queue: str, band: Band) -> str:
        """Return the stream of one queue and band."""
        return f"{self._prefix}:{{{queue}}}:{band.low}"

    @property
    def pattern(self) -> str:
        """The glob pattern of all streams' keys."""
        return re.sub(r"([*?\[\]\\^-])", r"\\\1", self._prefix) + ":{*}:*"

    def streams(self, queues: Iterable[str]) -> list[str]:
        """Return the streams of these queues, urgent bands first."""
        queues = list(queues)
        return [self.stream(queue, band) for band in BANDS for queue in queues]
