"""A worker process: its parts, from the settings."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from typing import NamedTuple

from taskd.compose.connections import Connections
from taskd.compose.startup import check_servers, following, supervised
from taskd.coordination.coordinator import EtcdCoordinator
from taskd.runtime import failpoints, log, tracing
from taskd.runtime.config import Config
from taskd.runtime.duty import unless
from taskd.runtime.lifecycle import instance_name, run, stop_on_signals
from taskd.runtime.outage import Outage
from taskd.runtime.serve import serving
from taskd.runtime.tls import identity
from taskd.seams import Coordinator
from taskd.settings import Settings
from taskd.store.claims import PostgresClaims
from taskd.store.config import PostgresConfigStore
from taskd.store.lane import ONE_PLAN, RELAXED
from taskd.store.logs import PostgresLogStore
from taskd.store.notes import PostgresNoteStore
from taskd.store.sessions import PostgresSessions
from taskd.transport.stream import RedisTransport
from taskd.worker.attempts import Attempts
from taskd.worker.fetcher import Fetcher
from taskd.worker.http import build as build_http
from taskd.worker.pool.pool import ExecutorPool, OnEnd, OnMessage
from taskd.worker.pool.protocol import Transactions
from taskd.worker.pool.reloading import Watcher, folders, reloading
from taskd.worker.renewer import Renewer
from taskd.worker.role import WorkerRole

HTTP_ADDR = "--http-addr or WORKER_HTTP_ADDR"
#: The most executor processes that are started unless the configuration asks for more.
MOST_PROCESSES = 4


def run_worker(settings: Settings) -> int:
    """Run a worker until SIGTERM or SIGINT. Return its exit status. Raises TaskdError for what the user must change."""
    return run(_run(settings))


class _WorkerParts(NamedTuple):
    """The parts that the others are made of."""

    settings: Settings
    worker_id: str
    connections: Connections
    transport: RedisTransport
    coordinator: Coordinator
    postgres: Outage
    redis: Outage
    config: Config


async def _run(settings: Settings) -> int:
    worker_id = instance_name(settings.worker.id)
    log.configure(settings.log, role="worker", worker=worker_id)
    failpoints.arm()
    stop = stop_on_signals()
    certificate = identity(settings.worker.cert_file, settings.worker.key_file, "worker")
    async with AsyncExitStack() as stack:
        supervisor = await stack.enter_async_context(supervised(stop))
        await stack.enter_async_context(tracing.exporting(settings.trace, "worker", worker_id))
        parts = await _parts(settings, worker_id, stack)
        role, executors = _role(parts)
        if settings.worker.http_addr:
            served = serving(build_http(role), settings.worker.http_addr, HTTP_ADDR, grace=1.0, identity=certificate)
            role.address = (await stack.enter_async_context(served)).url
        if not await _started(executors, settings, stop, stack):
            return 0
        supervisor.ready()
        transport, postgres, redis = parts.transport, parts.postgres, parts.redis
        if not await unless(stop, check_servers(settings, transport, stop, postgres, redis, migrate=False)):
            return 0
        parts.config.listen(role.configure)
        store = PostgresConfigStore(parts.connections.one("live"))
        async with following(settings, parts.config, parts.coordinator, store):
            await role.run(stop)
    return 0


async def _parts(settings: Settings, worker_id: str, stack: AsyncExitStack) -> _WorkerParts:
    transport = RedisTransport(settings.redis, consumer=worker_id)
    stack.push_async_callback(transport.close)
    coordinator = await stack.enter_async_context(EtcdCoordinator(settings.etcd, worker=worker_id))
    return _WorkerParts(
        settings=settings,
        worker_id=worker_id,
        connections=Connections(settings, stack, worker_id),
        transport=transport,
        coordinator=coordinator,
        postgres=Outage("PostgreSQL"),
        redis=Outage("Redis"),
        config=Config(),
    )


async def _started(executors: ExecutorPool, settings: Settings, stop: asyncio.Event, stack: AsyncExitStack) -> bool:
    """Start the executors. Return False if the worker was asked to stop while the app was being imported."""
    watcher = Watcher(folders()) if settings.worker.reload else None  # before the code is read for the first time
    if not await unless(stop, executors.start(patient=watcher is not None)):
        return False
    stack.push_async_callback(executors.close)
    if watcher is not None:
        await stack.enter_async_context(reloading(executors, watcher))
    return True


def _role(parts: _WorkerParts) -> tuple[WorkerRole, ExecutorPool]:
    settings, transport = parts.settings.worker, parts.transport
    attempts = _attempts(parts)
    sessions = PostgresSessions(parts.connections.one("session", RELAXED))
    pool, config, postgres, redis = attempts.executors, parts.config, parts.postgres, parts.redis
    role = WorkerRole(
        worker_id=parts.worker_id,
        settings=settings,
        queues=tuple(dict.fromkeys(queue.strip() for queue in settings.queues.split(",") if queue.strip())),
        sessions=sessions,
        transport=transport,
        coordinator=parts.coordinator,
        attempts=attempts,
        executors=pool,
        fetcher=Fetcher(transport, attempts, pool, settings, config=config, redis=redis),
        renewer=Renewer(sessions, transport, attempts, pool, settings, postgres=postgres),
        postgres=postgres,
        redis=redis,
    )
    return role, pool


def _attempts(parts: _WorkerParts) -> Attempts:
    settings, connections = parts.settings.worker, parts.connections

    def executors(on_end: OnEnd, on_message: OnMessage) -> ExecutorPool:
        return _pool(parts, on_end, on_message)

    return Attempts(
        PostgresClaims(connections.one("claim", ONE_PLAN), connections.one("settle", ONE_PLAN)),
        PostgresNoteStore(connections.one("note", ONE_PLAN)),
        PostgresLogStore(connections.one("log", RELAXED)),
        parts.transport,
        parts.coordinator,
        worker_id=parts.worker_id,
        slots=settings.concurrency,
        max_log_bytes=settings.max_log_bytes,
        executors=executors,
    )


def _pool(parts: _WorkerParts, on_end: OnEnd, on_message: OnMessage) -> ExecutorPool:
    settings, postgres = parts.settings.worker, parts.settings.postgres
    return ExecutorPool(
        app=settings.app,
        processes=settings.processes or min(settings.concurrency, os.cpu_count() or 1, MOST_PROCESSES),
        slots=settings.concurrency,
        worker_id=parts.worker_id,
        stop_grace=settings.stop_grace,
        max_result_bytes=settings.max_result_bytes,
        max_error_bytes=settings.max_error_bytes,
        max_log_bytes=settings.max_log_bytes,
        on_end=on_end,
        on_message=on_message,
        log=parts.settings.log,
        tasks=parts.settings.tasks,
        transactions=Transactions(settings.transaction_dsn or postgres.dsn, settings.transactions, postgres.pooled),
    )
