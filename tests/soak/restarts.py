"""Restarts of workers at random times, by SIGTERM or SIGKILL."""

from __future__ import annotations

import random
import time

from tests.chaos.world import World

#: Seconds between two restarts, and between an end and the next start.
BETWEEN, AWAY = (20.0, 40.0), (0.5, 5.0)
#: The worker that runs through the whole soak, so that one has a long series.
SPARED = "w1"


def restart_at_random(world: World, seconds: float, chance: random.Random) -> dict[str, int]:
    """Restart workers for `seconds`, and return the number of restarts by signal."""
    counts = {"SIGTERM": 0, "SIGKILL": 0}
    end = time.monotonic() + seconds
    while (pause := chance.uniform(*BETWEEN)) < end - time.monotonic():
        world.flow(pause)
        victim = world.members[chance.choice(sorted(w.name for w in world.workers if w.name != SPARED))]
        signal = chance.choice(sorted(counts))
        if signal == "SIGKILL":
            world.kill(victim)
        else:
            world.terminate(victim)
        counts[signal] += 1
        world.flow(chance.uniform(*AWAY))
        world.spawn_worker(victim.name)
    world.flow(max(0.0, end - time.monotonic()))
    return counts
