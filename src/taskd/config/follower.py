"""Follows the live configuration, in every process: through etcd while that answers, in PostgreSQL while it does not."""

from __future__ import annotations

import asyncio

from taskd.domain.errors import SchemaMismatch, StoreUnavailable
from taskd.runtime.config import Config
from taskd.seams import ConfigStore, Coordinator

#: Seconds between reads from PostgreSQL while etcd is away, and while it answers, since a change may have been missed.
AWAY, ANSWERS = 1.0, 30.0


async def follow(config: Config, coordinator: Coordinator, store: ConfigStore) -> None:
    """Keep `config` up to date until cancelled.

    A change in etcd says when to look, PostgreSQL's version is valid. Without PostgreSQL, etcd's copy is valid.
    """
    loop = asyncio.get_running_loop()
    ask_at = 0.0
    while True:
        spread = coordinator.configuration
        if loop.time() >= ask_at or (spread is not None and spread != config.now):
            ask_at = loop.time() + ANSWERS
            try:
                config.take(await store.latest(), certain=True)
            except (StoreUnavailable, SchemaMismatch):  # the duties that need PostgreSQL report the outage
                if spread is not None:
                    config.take(spread)
                ask_at = loop.time() + AWAY
            if coordinator.configuration is not spread:
                continue  # it changed during the read, and no other change would wake this loop
        if not coordinator.health.ok:
            ask_at = min(ask_at, loop.time() + AWAY)
        try:
            async with asyncio.timeout(max(0.0, ask_at - loop.time())):
                await coordinator.changed()
        except TimeoutError:
            continue
