"""Which queues the load goes to: several, and one at least for each shard, so that every leader has work."""

from __future__ import annotations

from itertools import count

from taskd.domain.shard import shard_of

LEAST = 3


def queues(prefix: str, shards: int) -> tuple[str, ...]:
    """Names that begin with `prefix`."""
    wanted, missing, found = max(LEAST, shards), set(range(shards)), list[str]()
    for number in count(1):
        name = f"{prefix}-{number}"
        shard = shard_of(name, shards)
        if shard in missing or len(found) + len(missing) < wanted:
            found.append(name)
            missing.discard(shard)
        if len(found) == wanted:
            break
    return tuple(found)
