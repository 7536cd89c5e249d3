"""Shards: each has an election of its own, so that several schedulers lead at once, each for its own queues."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256


@lru_cache(maxsize=4096)
def shard_of(queue: str, shards: int) -> int:
    """The shard of a queue, from 0 on: the same one everywhere and for ever. `taskd.shard_of` in PostgreSQL says the same."""
    return int.from_bytes(sha256(queue.encode()).digest()[:4]) % shards if shards > 1 else 0
