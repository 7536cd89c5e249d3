"""A scheduler process: its parts, from the settings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import NamedTuple
from uuid import uuid4

from taskd.api import Api
from taskd.api import build as build_api
from taskd.compose.connections import Connections, LeaderConnections
from taskd.compose.startup import check_servers, following, supervised
from taskd.config import ConfigEditor, Repairer
from taskd.coordination.coordinator import EtcdCoordinator
from taskd.domain.errors import ConfigurationError, StoreUnavailable
from taskd.domain.explain.situation import Timings
from taskd.runtime import failpoints, log, meters, tracing
from taskd.runtime.config import Config
from taskd.runtime.duty import unless
from taskd.runtime.host import this_process
from taskd.runtime.lifecycle import instance_name, run, stop_on_signals
from taskd.runtime.outage import Outage
from taskd.runtime.serve import Address, local, parse_address, serving
from taskd.runtime.tls import identity
from taskd.scheduler.cancel_notifier import CancelNotifier
from taskd.scheduler.dispatch_wakeup import DispatchWakeup
from taskd.scheduler.dispatcher import Dispatcher
from taskd.scheduler.firer import Firer
from taskd.scheduler.fleet import Fleet
from taskd.scheduler.leadership import Leadership
from taskd.scheduler.pruner import Pruner
from taskd.scheduler.reaper import Reaper
from taskd.scheduler.reofferer import Reofferer
from taskd.scheduler.role import SchedulerRole
from taskd.scheduler.shard import Duty, Shard
from taskd.seams import Coordinator, Member
from taskd.settings import Settings
from taskd.store.cancels import PostgresCancels
from taskd.store.config import PostgresConfigStore
from taskd.store.dispatch import PostgresDispatching
from taskd.store.explained import PostgresExplained
from taskd.store.intake import SUBMIT_OPTIONS, PostgresIntake
from taskd.store.lane import ONE_PLAN, RELAXED, Lanes
from taskd.store.logs import PostgresLogReader
from taskd.store.prune import PostgresPruning
from taskd.store.reads import PostgresReads
from taskd.store.reap import PostgresReaping
from taskd.store.retries import PostgresRetries
from taskd.store.schedules import PostgresSchedules
from taskd.store.terms import LOCK_OPTIONS, PostgresTerms
from taskd.store.ticks import PostgresTicks
from taskd.store.tokens import PostgresTokens
from taskd.transport.stream import RedisTransport

#: Seconds between refreshes of a scheduler's figures in the registry.
REPORT_EVERY = 3.0
HTTP_ADDR = "--http-addr or HTTP_ADDR"


def run_scheduler(settings: Settings, *, migrate: bool = False) -> int:
    """Run a scheduler until SIGTERM or SIGINT. Return its exit status. Raises TaskdError for what the user must change."""
    return run(_run(settings, migrate))


class _SchedulerParts(NamedTuple):
    """The parts that the others are made of."""

    settings: Settings
    name: str
    connections: Connections
    transport: RedisTransport
    coordinator: Coordinator
    postgres: Outage
    redis: Outage
    config: Config
    config_store: PostgresConfigStore
    terms: PostgresTerms
    readers: Lanes
    reads: PostgresReads
    tokens: PostgresTokens

    @property
    def private(self) -> bool:
        """True if only this machine can reach the API."""
        return local(parse_address(self.settings.http.addr, HTTP_ADDR))


async def _run(settings: Settings, migrate: bool) -> int:
    name = instance_name(settings.scheduler.instance_id)
    log.configure(settings.log, role="scheduler", instance=name)
    failpoints.arm()
    stop = stop_on_signals()
    certificate, http = identity(settings.http.cert_file, settings.http.key_file, "http"), settings.http
    async with AsyncExitStack() as stack:
        supervisor = await stack.enter_async_context(supervised(stop))
        await stack.enter_async_context(tracing.exporting(settings.trace, "scheduler", name))
        parts = await _parts(settings, name, stack)
        role, api = _role_and_api(parts)
        address = await stack.enter_async_context(
            serving(api, http.addr, HTTP_ADDR, grace=http.shutdown_grace, closing=api.close, identity=certificate)
        )
        async with parts.coordinator.register(_member(name, address, role), REPORT_EVERY):
            supervisor.ready()
            # The API is served already, so that /health tells what is missing during the wait.
            transport, postgres, redis = parts.transport, parts.postgres, parts.redis
            if not await unless(stop, check_servers(settings, transport, stop, postgres, redis, migrate=migrate)):
                return 0
            if not parts.private and not http.insecure:
                await _check_tokens(parts.tokens, address)
            log.logger().info("serving", address=str(address))
            async with following(settings, parts.config, parts.coordinator, parts.config_store):
                await role.run(stop)
    return 0


async def _parts(settings: Settings, name: str, stack: AsyncExitStack) -> _SchedulerParts:
    transport = RedisTransport(settings.redis)
    stack.push_async_callback(transport.close)
    shards = settings.scheduler.shards
    coordinator = await stack.enter_async_context(EtcdCoordinator(settings.etcd, shards=shards))
    connections = Connections(settings, stack, name)
    readers = connections.several("overview", settings.postgres.readers)
    return _SchedulerParts(
        settings=settings,
        name=name,
        connections=connections,
        transport=transport,
        coordinator=coordinator,
        postgres=Outage("PostgreSQL"),
        redis=Outage("Redis"),
        config=Config(),
        config_store=PostgresConfigStore(connections.one("live")),
        terms=PostgresTerms(connections.one("terms")),
        readers=readers,
        reads=PostgresReads(readers),
        tokens=PostgresTokens(connections.one("tokens")),
    )


async def _check_tokens(tokens: PostgresTokens, address: Address) -> None:
    """Raise ConfigurationError if a network could reach the API and no request needed a token."""
    try:
        keyring = await tokens.keyring()
    except StoreUnavailable:
        return  # the API refuses every request while it does not know the tokens
    if not keyring.closed:
        raise ConfigurationError(
            f"{address} can be reached from a network and there are no API tokens: make one (taskd token create), listen on"
            " localhost (--http-addr localhost:8080), or accept that every client may do everything (--insecure)"
        )


def _member(name: str, address: Address, role: SchedulerRole) -> Callable[[], Member]:
    """Return a function that describes this scheduler, for the registry."""
    began, host, incarnation = time.time(), this_process(), uuid4()

    def member() -> Member:
        return Member(
            kind="scheduler",
            id=name,
            incarnation=incarnation,
            address=address.url,
            host=host.name,
            pid=host.pid,
            started_at=began,
            stats=role.stats(),
        )

    return member


def _role_and_api(parts: _SchedulerParts) -> tuple[SchedulerRole, Api]:
    shards: list[Shard] = []
    wakeup = DispatchWakeup(parts.transport, shards)
    parts.config.listen(lambda _: wakeup.wake_local())  # a queue may go on
    role = _role(parts, wakeup, shards)
    return role, _api(parts, role, wakeup)


def _role(parts: _SchedulerParts, wakeup: DispatchWakeup, shards: list[Shard]) -> SchedulerRole:
    """Return the role; adds its shards to `shards`. Shard 0 has the duties that only one leader does."""
    settings, postgres, config, coordinator = parts.settings, parts.postgres, parts.config, parts.coordinator
    fleet = Fleet(parts.reads, coordinator, config, every=2.0, changed=wakeup.wake_local)
    first = LeaderConnections(parts.connections)
    reaping, pruning = PostgresReaping(first.one(ONE_PLAN)), PostgresPruning(first.one())
    reaper = Reaper(reaping, lease=settings.worker.session_ttl, postgres=postgres, wake=wakeup)
    pruner = Pruner(pruning, settings.history, config=config, postgres=postgres)
    firer = Firer(PostgresTicks(first.one(ONE_PLAN)), postgres=postgres, wake=wakeup)
    once = reaper.run, pruner.run, firer.run, Repairer(parts.config_store, coordinator).run
    for number in range(settings.scheduler.shards):
        leader, more = (LeaderConnections(parts.connections), ()) if number else (first, once)
        shards.append(_shard(parts, leader, fleet, number, more))
    meters.SHARDS.set(len(shards))
    return SchedulerRole(
        instance_id=parts.name,
        reads=parts.reads,
        transport=parts.transport,
        coordinator=coordinator,
        postgres=postgres,
        redis=parts.redis,
        wakeup=wakeup,
        submitted=parts.connections.listener(),
        shards=shards,
        reaper=reaper,
        pruner=pruner,
        firer=firer,
    )


def _shard(parts: _SchedulerParts, leader: LeaderConnections, fleet: Fleet, number: int, more: Sequence[Duty]) -> Shard:
    """Return one shard, with `more` duties. All shards read the leaders' rows on one connection."""
    settings, transport, redis = parts.settings.scheduler, parts.transport, parts.redis
    wakeup = asyncio.Event()
    dispatching = PostgresDispatching(leader.one(RELAXED))
    dispatcher = Dispatcher(dispatching, transport, fleet, settings, wakeup=wakeup, redis=redis)
    leadership = Leadership(
        PostgresTerms(leader.one(LOCK_OPTIONS)),
        parts.coordinator,
        settings,
        instance_id=parts.name,
        holder=leader.holder,
        shard=number,
        current=parts.terms.current,
        rest=leader.rest,
        postgres=parts.postgres,
        dispatched=lambda: dispatcher.dispatched,
    )
    return Shard(
        leadership=leadership,
        dispatcher=dispatcher,
        reofferer=Reofferer(
            dispatching,
            transport,
            after=settings.reoffer_after,
            ringing=dispatcher.ringing,
            wakeup=wakeup,
            redis=redis,
        ),
        fleet=fleet,
        wakeup=wakeup,
        more=more,
    )


def _api(parts: _SchedulerParts, role: SchedulerRole, wakeup: DispatchWakeup) -> Api:
    connections, settings = parts.connections, parts.settings
    return build_api(
        intake=PostgresIntake(
            connections.one("intake", SUBMIT_OPTIONS),
            connections.one("bulk", SUBMIT_OPTIONS),
            deadline=settings.postgres.deadline,
            stored=wakeup,
        ),
        cancels=PostgresCancels(connections.one("cancel", ONE_PLAN), stopped=CancelNotifier(parts.transport)),
        retries=PostgresRetries(connections.one("retry", ONE_PLAN), stored=wakeup),
        reads=parts.reads,
        terms=parts.terms,
        coordinator=parts.coordinator,
        standing=role,
        editor=ConfigEditor(parts.config_store, parts.coordinator, parts.config),
        tokens=parts.tokens,
        log_reader=PostgresLogReader(parts.readers),
        schedules=PostgresSchedules(connections.one("schedules"), changed=role.firer.changed),
        explained=PostgresExplained(connections.one("explain", ONE_PLAN)),
        transport=parts.transport,
        settings=settings.http,
        timings=_timings(settings),
        allow_anonymous=parts.private or settings.http.insecure,
    )


def _timings(settings: Settings) -> Timings:
    return Timings(
        ageing=settings.scheduler.ageing,
        leader_stale=settings.scheduler.leader_stale,
        reoffer_after=settings.scheduler.reoffer_after,
        claim_idle=settings.worker.claim_idle,
        lease=settings.worker.session_ttl,
    )
