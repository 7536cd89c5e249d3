"""Shards: each has an election of its own, so that several schedulers lead at once, each for its own queues."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256


@lru_cache(maxsize=4096)
def shard_of(queue: str, shards: int) -> int:
    """Return the shard of a queue, from 0 on: always the same. `taskd.shard_of` in PostgreSQL gives the same number."""
    return int.from_bytes(sha256(queue.encode()).digest()[:4]) % shards if shards > 1 else 0
