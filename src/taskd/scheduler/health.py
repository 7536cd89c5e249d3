"""Watches PostgreSQL and Redis, for /health and for the duties that depend on them."""

from __future__ import annotations

import asyncio

from taskd.domain.errors import SchemaMismatch, StoreUnavailable, TransportUnavailable
from taskd.runtime.outage import Outage
from taskd.seams import Reads, Transport

#: Seconds between looks at a server that answers, and at one that does not.
EVERY, SOON = 3.0, 0.5


async def watch_postgres(reads: Reads, outage: Outage) -> None:
    """Keep `outage` true to PostgreSQL until cancelled."""
    while True:
        try:
            await reads.ping()
            outage.up()
        except (StoreUnavailable, SchemaMismatch) as error:
            outage.down(error)
        await asyncio.sleep(EVERY if outage.health.ok else SOON)


async def watch_redis(transport: Transport, outage: Outage) -> None:
    """Keep `outage` true to Redis until cancelled."""
    while True:
        try:
            await transport.ping()
            outage.up()
        except TransportUnavailable as error:
            outage.down(error)
        await asyncio.sleep(EVERY if outage.health.ok else SOON)
