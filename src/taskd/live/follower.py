"""Every process follows the live configuration: in etcd while that answers, in PostgreSQL while it does not."""

from __future__ import annotations

import asyncio

from taskd.domain.errors import SchemaMismatch, StoreUnavailable
from taskd.runtime.live import Live
from taskd.seams import ConfigStore, Coordinator

#: Seconds between questions to PostgreSQL while etcd is away, and while it answers: a change there may have been missed.
AWAY, ANSWERS = 1.0, 30.0


async def follow(live: Live, coordinator: Coordinator, store: ConfigStore) -> None:
    """Keep `live` up to date until cancelled. etcd says when to look, PostgreSQL what is valid; without it etcd's copy is."""
    loop = asyncio.get_running_loop()
    ask_at = 0.0
    while True:
        spread = coordinator.configuration
        if loop.time() >= ask_at or (spread is not None and spread != live.now):
            ask_at = loop.time() + ANSWERS
            try:
                live.take(await store.latest(), certain=True)
            except (StoreUnavailable, SchemaMismatch):  # whoever needs PostgreSQL tells of the outage
                if spread is not None:
                    live.take(spread)
                ask_at = loop.time() + AWAY
            if coordinator.configuration is not spread:
                continue  # it changed while we asked, and nobody would wake us
        if not coordinator.health.ok:
            ask_at = min(ask_at, loop.time() + AWAY)
        try:
            async with asyncio.timeout(max(0.0, ask_at - loop.time())):
                await coordinator.changed()
        except TimeoutError:
            continue
