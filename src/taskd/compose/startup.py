"""The start of a process: the checks of its servers, and what it does in the background while it works."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import tenacity

from taskd.config import follow
from taskd.domain.errors import (
    AccessDenied,
    ConfigurationError,
    SchemaMismatch,
    StoreUnavailable,
    TransportAccessDenied,
    TransportUnavailable,
)
from taskd.runtime import log, meters
from taskd.runtime.config import Config
from taskd.runtime.duty import aside, end, forever
from taskd.runtime.outage import Outage
from taskd.runtime.supervisor import Supervisor
from taskd.runtime.waiting import wait_for
from taskd.seams import ConfigStore, Coordinator
from taskd.settings import PostgresSettings, Settings
from taskd.store.migrations import POOLED
from taskd.store.migrations import migrate as apply_migrations
from taskd.store.migrations import pending as pending_migrations
from taskd.transport.stream import RedisTransport


async def check_servers(
    settings: Settings,
    transport: RedisTransport,
    stop: asyncio.Event,
    postgres: Outage,
    redis: Outage,
    *,
    migrate: bool,
) -> None:
    """Look at Redis once, and go on without it. Wait for PostgreSQL with a schema that fits, and log what is missing.

    Raises SchemaMismatch, AccessDenied or ConfigurationError for what waiting cannot repair.
    """
    await _check_redis(transport, redis)

    async def pause(seconds: float) -> None:
        await wait_for(stop, seconds)

    waiting = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(lambda error: isinstance(error, StoreUnavailable) and not stop.is_set()),
        wait=tenacity.wait_random_exponential(multiplier=0.2, max=2.0),
        before_sleep=lambda state: postgres.down(state.outcome.exception()),  # type: ignore[arg-type,union-attr]  # it failed
        sleep=pause,
        reraise=True,
    )
    try:
        await waiting(_check_schema, settings.postgres, migrate)
    except StoreUnavailable:
        return  # asked to stop before PostgreSQL came
    postgres.up()


async def _check_redis(transport: RedisTransport, redis: Outage) -> None:
    try:
        policy = await transport.policy()
    except TransportAccessDenied as error:
        raise AccessDenied(str(error)) from None
    except TransportUnavailable as error:
        redis.down(error)
    else:
        if policy not in ("noeviction", ""):
            log.logger().warning("Redis may throw entries away: set maxmemory-policy to noeviction", policy=policy)


async def _check_schema(settings: PostgresSettings, migrate: bool) -> None:
    dsn = settings.dsn
    if migrate and settings.pooled:
        raise ConfigurationError(POOLED)
    if migrate:
        await aside(apply_migrations, dsn)
    missing = await aside(functools.partial(pending_migrations, dsn, pooled=settings.pooled))
    if missing:
        raise SchemaMismatch(f"the database's schema lacks {', '.join(missing)}: run `taskd migrate`")


@asynccontextmanager
async def supervised(stop: asyncio.Event) -> AsyncIterator[Supervisor]:
    """Notify systemd, if it started this process, that it lives, and once `stop` is set, that it stops."""
    supervisor = Supervisor()

    async def notify_stopping() -> None:
        await stop.wait()
        supervisor.stopping()

    tasks = [asyncio.create_task(supervisor.watch()), asyncio.create_task(notify_stopping())]
    try:
        yield supervisor
    finally:
        for task in tasks:
            await end(task)


@asynccontextmanager
async def following(
    settings: Settings, config: Config, coordinator: Coordinator, store: ConfigStore
) -> AsyncIterator[None]:
    """Follow the live configuration, apply its log level, and measure the event loop, until the context ends."""
    config.listen(lambda version: log.set_level(version.log_level or settings.log.level))
    tasks = [
        asyncio.create_task(forever("following the live configuration", lambda: follow(config, coordinator, store))),
        asyncio.create_task(forever("measuring the event loop", meters.watch_loop)),
    ]
    try:
        yield
    finally:
        for task in tasks:
            await end(task)
