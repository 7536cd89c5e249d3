"""Workers that end at random moments, in order or not, and begin again."""

from __future__ import annotations

import random
import time

from tests.chaos.world import World

#: Seconds between two restarts, and between an end and the new beginning.
BETWEEN, AWAY = (20.0, 40.0), (0.5, 5.0)
#: Runs through the whole soak, so that there is a worker with a long series.
SPARED = "w1"


def restart_at_random(world: World, seconds: float, chance: random.Random) -> dict[str, int]:
    """For so many seconds: restart a worker now and then; how often by which signal."""
    done = {"SIGTERM": 0, "SIGKILL": 0}
    end = time.monotonic() + seconds
    while (pause := chance.uniform(*BETWEEN)) < end - time.monotonic():
        world.flow(pause)
        victim = world.members[chance.choice(sorted(w.name for w in world.workers if w.name != SPARED))]
        how = chance.choice(sorted(done))
        if how == "SIGKILL":
            world.kill(victim)
        else:
            world.terminate(victim)
        done[how] += 1
        world.flow(chance.uniform(*AWAY))
        world.spawn_worker(victim.name)
    world.flow(max(0.0, end - time.monotonic()))
    return done
