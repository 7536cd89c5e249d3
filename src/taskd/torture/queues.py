"""The queues of the load: several, and at least one for each shard, so that every leader has work."""

from __future__ import annotations

from itertools import count

from taskd.domain.shard import shard_of

LEAST = 3


def queues(prefix: str, shards: int) -> tuple[str, ...]:
    """Return names that begin with `prefix`."""
    needed, missing, names = max(LEAST, shards), set(range(shards)), list[str]()
    for number in count(1):
        name = f"{prefix}-{number}"
        shard = shard_of(name, shards)
        if shard in missing or len(names) + len(missing) < needed:
            names.append(name)
            missing.discard(shard)
        if len(names) == needed:
            break
    return tuple(names)
