"""The one place that joins seams to implementations: what a scheduler and a worker are made of."""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import uuid4

import tenacity

from taskd.api import build as build_api
from taskd.config import ConfigEditor, Repairer, follow
from taskd.coordination.coordinator import EtcdCoordinator
from taskd.domain.errors import (
    AccessDenied,
    ConfigurationError,
    SchemaMismatch,
    StoreUnavailable,
    TransportAccessDenied,
    TransportUnavailable,
)
from taskd.domain.explain.situation import Timings
from taskd.runtime import failpoints, log, meters, tracing
from taskd.runtime.config import Config
from taskd.runtime.duty import aside, end, forever, unless
from taskd.runtime.host import this_process
from taskd.runtime.lifecycle import instance_name, run, stop_on_signals
from taskd.runtime.outage import Outage
from taskd.runtime.serve import Address, local, parse_address, serving
from taskd.runtime.supervisor import Supervisor
from taskd.runtime.tls import identity
from taskd.runtime.waiting import wait_for
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
from taskd.seams import Coordinator, Member, Transport
from taskd.settings import PostgresSettings, Settings
from taskd.store.cancels import PostgresCancels
from taskd.store.claims import PostgresClaims
from taskd.store.config import PostgresConfigStore
from taskd.store.dispatch import PostgresDispatching
from taskd.store.explained import PostgresExplained
from taskd.store.intake import PATIENCE, PostgresIntake
from taskd.store.lane import ONE_PLAN, RELAXED, Lane, Lanes
from taskd.store.listener import PostgresListener
from taskd.store.logs import PostgresLogReader, PostgresLogStore
from taskd.store.migrations import POOLED
from taskd.store.migrations import migrate as apply_migrations
from taskd.store.migrations import pending as pending_migrations
from taskd.store.notes import PostgresNoteStore
from taskd.store.prune import PostgresPruning
from taskd.store.reads import PostgresReads
from taskd.store.reap import PostgresReaping
from taskd.store.retries import PostgresRetries
from taskd.store.schedules import PostgresSchedules
from taskd.store.sessions import PostgresSessions
from taskd.store.terms import LOCK_PATIENCE, PostgresTerms, leader_name
from taskd.store.ticks import PostgresTicks
from taskd.store.tokens import PostgresTokens
from taskd.transport.stream import RedisTransport
from taskd.worker.attempts import Attempts
from taskd.worker.fetcher import Fetcher
from taskd.worker.http import build as build_worker_http
from taskd.worker.pool.pool import ExecutorPool, OnEnd, OnMessage
from taskd.worker.pool.protocol import Transactions
from taskd.worker.pool.reloading import Watcher, folders, reloading
from taskd.worker.renewer import Renewer
from taskd.worker.role import WorkerRole

#: Seconds between refreshes of a scheduler's figures in the registry.
REPORT_EVERY = 3.0
HTTP_ADDR = "--http-addr or HTTP_ADDR"
#: The most executor processes that are started unless the configuration asks for more.
MOST_PROCESSES = 4


def run_scheduler(settings: Settings, *, migrate: bool = False) -> int:
    """Run a scheduler until SIGTERM or SIGINT; its exit status. Raises TaskdError for what the user must mend."""
    return run(_scheduler(settings, migrate))


def run_worker(settings: Settings) -> int:
    """Run a worker until SIGTERM or SIGINT; its exit status. Raises TaskdError for what the user must mend."""
    return run(_worker(settings))


async def _scheduler(settings: Settings, migrate: bool) -> int:
    name = instance_name(settings.scheduler.instance_id)
    log.configure(settings.log, role="scheduler", instance=name)
    failpoints.arm()
    stop = stop_on_signals()
    certificate = identity(settings.http.cert_file, settings.http.key_file, "http")
    async with AsyncExitStack() as stack:
        supervisor = await stack.enter_async_context(_supervised(stop))
        await stack.enter_async_context(tracing.exporting(settings.trace, "scheduler", name))
        postgres, redis = Outage("PostgreSQL"), Outage("Redis")
        transport = RedisTransport(settings.redis)
        stack.push_async_callback(transport.close)
        coordinator = await stack.enter_async_context(EtcdCoordinator(settings.etcd, shards=settings.scheduler.shards))
        lanes, live = _Lanes(settings, stack, name), Config()
        store, terms = PostgresConfigStore(lanes.one("live")), PostgresTerms(lanes.one("terms"))
        reads = lanes.several("overview", settings.postgres.readers)
        overview = PostgresReads(reads)
        role, intake, stored = _assemble_scheduler(
            settings, name, stack, transport, coordinator, postgres, redis, live, store, terms, overview
        )
        tokens = PostgresTokens(lanes.one("tokens"))
        private = local(parse_address(settings.http.addr, HTTP_ADDR))
        api = build_api(
            intake=intake,
            cancels=PostgresCancels(lanes.one("cancel", ONE_PLAN), stopped=CancelNotifier(transport)),
            retries=PostgresRetries(lanes.one("retry", ONE_PLAN), stored=stored),
            overview=overview,
            terms=terms,
            coordinator=coordinator,
            standing=role,
            editor=ConfigEditor(store, coordinator, live),
            tokens=tokens,
            transcripts=PostgresLogReader(reads),
            schedules=PostgresSchedules(lanes.one("schedules"), changed=role.firer.changed),
            explained=PostgresExplained(lanes.one("explain", ONE_PLAN)),
            transport=transport,
            settings=settings.http,
            timings=_timings(settings),
            allow_anonymous=private or settings.http.insecure,
        )
        grace = settings.http.shutdown_grace
        address = await stack.enter_async_context(
            serving(api, settings.http.addr, HTTP_ADDR, grace=grace, closing=api.close, identity=certificate)
        )
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

        async with coordinator.register(member, REPORT_EVERY):
            supervisor.ready()
            # Served already, so that /health tells what is missing while we wait for it.
            if not await unless(stop, _check_servers(settings, transport, stop, postgres, redis, migrate=migrate)):
                return 0
            if not private and not settings.http.insecure:
                await _check_door(tokens, address)
            log.logger().info("serving", address=str(address))
            async with _following(settings, live, coordinator, store):
                await role.run(stop)
    return 0


def _timings(settings: Settings) -> Timings:
    return Timings(
        ageing=settings.scheduler.ageing,
        leader_stale=settings.scheduler.leader_stale,
        reoffer_after=settings.scheduler.reoffer_after,
        claim_idle=settings.worker.claim_idle,
        lease=settings.worker.session_ttl,
    )


async def _check_door(tokens: PostgresTokens, address: Address) -> None:
    """Raise ConfigurationError if a network could reach us and nobody needed a token."""
    try:
        keyring = await tokens.keyring()
    except StoreUnavailable:
        return  # the door itself lets nobody in while it does not know
    if not keyring.closed:
        raise ConfigurationError(
            f"{address} can be reached from a network and there are no API tokens: make one (taskd token create), listen on"
            " localhost (--http-addr localhost:8080), or accept that everybody may do everything (--insecure)"
        )


def _assemble_scheduler(
    settings: Settings,
    name: str,
    stack: AsyncExitStack,
    transport: Transport,
    coordinator: Coordinator,
    postgres: Outage,
    redis: Outage,
    live: Config,
    live_store: PostgresConfigStore,
    terms: PostgresTerms,
    overview: PostgresReads,
) -> tuple[SchedulerRole, PostgresIntake, DispatchWakeup]:
    lane = _Lanes(settings, stack, name)
    shards: list[Shard] = []
    wakeup = DispatchWakeup(transport, shards)
    live.listen(lambda _: wakeup.wake_local())  # a queue may go on
    fleet = Fleet(overview, coordinator, live, every=2.0, changed=wakeup.wake_local)
    first = _LeaderLanes(lane)
    upkeep, history = PostgresReaping(first.one(ONE_PLAN)), PostgresPruning(first.one())
    reaper = Reaper(upkeep, lease=settings.worker.session_ttl, postgres=postgres, wake=wakeup)
    pruner = Pruner(history, settings.history, config=live, postgres=postgres)
    firer = Firer(PostgresTicks(first.one(ONE_PLAN)), postgres=postgres, wake=wakeup)
    once = reaper.run, pruner.run, firer.run, Repairer(live_store, coordinator).run
    for number in range(settings.scheduler.shards):
        own, more = (_LeaderLanes(lane), ()) if number else (first, once)
        shards.append(_shard(settings, name, own, terms, transport, coordinator, fleet, postgres, redis, number, more))
    meters.SHARDS.set(len(shards))
    role = SchedulerRole(
        instance_id=name,
        overview=overview,
        transport=transport,
        coordinator=coordinator,
        postgres=postgres,
        redis=redis,
        wakeup=wakeup,
        submitted=lane.listener(),
        shards=shards,
        reaper=reaper,
        pruner=pruner,
        firer=firer,
    )
    intake = PostgresIntake(
        lane.one("intake", PATIENCE),
        lane.one("bulk", PATIENCE),
        deadline=settings.postgres.deadline,
        stored=wakeup,
    )
    return role, intake, wakeup


def _shard(
    settings: Settings,
    name: str,
    lane: _LeaderLanes,
    terms: PostgresTerms,
    transport: Transport,
    coordinator: Coordinator,
    fleet: Fleet,
    postgres: Outage,
    redis: Outage,
    number: int,
    more: Sequence[Duty],
) -> Shard:
    """One shard, with `more` duties. `terms` is for looking at, and everybody's."""
    own, wakeup = settings.scheduler, asyncio.Event()
    due = PostgresDispatching(lane.one(RELAXED))
    dispatcher = Dispatcher(due, transport, fleet, own, wakeup=wakeup, redis=redis)
    leadership = Leadership(
        PostgresTerms(lane.one(LOCK_PATIENCE)),
        coordinator,
        own,
        instance_id=name,
        holder=lane.holder,
        shard=number,
        current=terms.current,
        rest=lane.rest,
        postgres=postgres,
        dispatched=lambda: dispatcher.dispatched,
    )
    return Shard(
        leadership=leadership,
        dispatcher=dispatcher,
        reofferer=Reofferer(
            due, transport, after=own.reoffer_after, ringing=dispatcher.ringing, wakeup=wakeup, redis=redis
        ),
        fleet=fleet,
        wakeup=wakeup,
        more=more,
    )


async def _worker(settings: Settings) -> int:
    worker_id = instance_name(settings.worker.id)
    log.configure(settings.log, role="worker", worker=worker_id)
    failpoints.arm()
    stop = stop_on_signals()
    certificate = identity(settings.worker.cert_file, settings.worker.key_file, "worker")
    async with AsyncExitStack() as stack:
        supervisor = await stack.enter_async_context(_supervised(stop))
        await stack.enter_async_context(tracing.exporting(settings.trace, "worker", worker_id))
        postgres, redis = Outage("PostgreSQL"), Outage("Redis")
        transport = RedisTransport(settings.redis, consumer=worker_id)
        stack.push_async_callback(transport.close)
        live = Config()
        executors, role, coordinator, store = await _assemble_worker(
            settings, worker_id, stack, transport, postgres, redis, live
        )
        if settings.worker.http_addr:
            option = "--http-addr or WORKER_HTTP_ADDR"
            address = await stack.enter_async_context(
                serving(build_worker_http(role), settings.worker.http_addr, option, grace=1.0, identity=certificate)
            )
            role.address = address.url
        watcher = Watcher(folders()) if settings.worker.reload else None  # before the code is read for the first time
        if not await unless(stop, executors.start(patient=watcher is not None)):
            return 0  # asked to stop while the app was being imported
        stack.push_async_callback(executors.close)
        if watcher is not None:
            await stack.enter_async_context(reloading(executors, watcher))
        supervisor.ready()
        if not await unless(stop, _check_servers(settings, transport, stop, postgres, redis, migrate=False)):
            return 0
        live.listen(role.configure)
        async with _following(settings, live, coordinator, store):
            await role.run(stop)
    return 0


async def _assemble_worker(
    settings: Settings,
    worker_id: str,
    stack: AsyncExitStack,
    transport: Transport,
    postgres: Outage,
    redis: Outage,
    live: Config,
) -> tuple[ExecutorPool, WorkerRole, EtcdCoordinator, PostgresConfigStore]:
    own = settings.worker
    queues = tuple(dict.fromkeys(queue.strip() for queue in own.queues.split(",") if queue.strip()))
    lane = _Lanes(settings, stack, worker_id)
    claims = PostgresClaims(lane.one("claim", ONE_PLAN), lane.one("settle", ONE_PLAN))
    sessions = PostgresSessions(lane.one("session", RELAXED))
    coordinator = await stack.enter_async_context(EtcdCoordinator(settings.etcd, worker=worker_id))
    notes = PostgresNoteStore(lane.one("note", ONE_PLAN))
    logs = PostgresLogStore(lane.one("log", RELAXED))

    def executors(on_end: OnEnd, on_message: OnMessage) -> ExecutorPool:
        return ExecutorPool(
            app=own.app,
            processes=own.processes or min(own.concurrency, os.cpu_count() or 1, MOST_PROCESSES),
            slots=own.concurrency,
            worker_id=worker_id,
            stop_grace=own.stop_grace,
            max_result_bytes=own.max_result_bytes,
            max_error_bytes=own.max_error_bytes,
            max_log_bytes=own.max_log_bytes,
            on_end=on_end,
            on_message=on_message,
            log=settings.log,
            tasks=settings.tasks,
            transactions=Transactions(
                own.transaction_dsn or settings.postgres.dsn, own.transactions, settings.postgres.pooled
            ),
        )

    attempts = Attempts(
        claims,
        notes,
        logs,
        transport,
        coordinator,
        worker_id=worker_id,
        slots=own.concurrency,
        max_log_bytes=own.max_log_bytes,
        executors=executors,
    )
    pool = attempts.executors
    role = WorkerRole(
        worker_id=worker_id,
        settings=own,
        queues=queues,
        sessions=sessions,
        transport=transport,
        coordinator=coordinator,
        attempts=attempts,
        executors=pool,
        fetcher=Fetcher(transport, attempts, pool, own, config=live, redis=redis),
        renewer=Renewer(sessions, transport, attempts, pool, own, postgres=postgres),
        postgres=postgres,
        redis=redis,
    )
    return pool, role, coordinator, PostgresConfigStore(lane.one("live"))


@asynccontextmanager
async def _supervised(stop: asyncio.Event) -> AsyncIterator[Supervisor]:
    """Tell systemd, if it started us, that we live, and that we were asked to stop."""
    supervisor = Supervisor()

    async def farewell() -> None:
        await stop.wait()
        supervisor.stopping()

    tasks = [asyncio.create_task(supervisor.watch()), asyncio.create_task(farewell())]
    try:
        yield supervisor
    finally:
        for task in tasks:
            await end(task)


@asynccontextmanager
async def _following(
    settings: Settings, live: Config, coordinator: Coordinator, store: PostgresConfigStore
) -> AsyncIterator[None]:
    """Follow the live configuration, and measure the event loop, while the process works; the log level is everybody's."""
    live.listen(lambda version: log.set_level(version.log_level or settings.log.level))
    tasks = [
        asyncio.create_task(forever("following the live configuration", lambda: follow(live, coordinator, store))),
        asyncio.create_task(forever("measuring the event loop", meters.watch_loop)),
    ]
    try:
        yield
    finally:
        for task in tasks:
            await end(task)


class _Lanes:
    """Makes one process's connections to PostgreSQL and sees to their end."""

    def __init__(self, settings: Settings, stack: AsyncExitStack, instance: str) -> None:
        self._settings = settings.postgres
        self._stack = stack
        self._instance = instance[:40]

    def one(self, duty: str, options: Mapping[str, str] | None = None) -> Lane:
        """A lane for one duty."""
        return self._kept(f"taskd:{duty}:{self._instance}", options)

    def listener(self) -> PostgresListener:
        """What hears of jobs that are submitted in SQL. It closes with whoever listens."""
        own = self._settings
        return PostgresListener(own.dsn, name=f"taskd:submitted:{self._instance}", pooled=own.pooled)

    def leader(self, holder: object, options: Mapping[str, str] | None = None) -> Lane:
        """A lane for what only the leader does, named so that a successor can find it."""
        return self._kept(leader_name(holder), options)

    def several(self, duty: str, size: int) -> Lanes:
        """A few lanes for one duty."""
        own = self._settings
        name = f"taskd:{duty}:{self._instance}"
        lanes = Lanes(own.dsn, name=name, deadline=own.deadline, size=size, pooled=own.pooled)
        self._stack.push_async_callback(lanes.close)
        return lanes

    def _kept(self, name: str, options: Mapping[str, str] | None) -> Lane:
        own = self._settings
        lane = Lane(own.dsn, name=name, deadline=own.deadline, options=options, pooled=own.pooled)
        self._stack.push_async_callback(lane.close)
        return lane


class _LeaderLanes:
    """The connections of one leadership, with a holder of its own: by that a successor finds these, and no others."""

    def __init__(self, lanes: _Lanes) -> None:
        self.holder = uuid4()
        self._lanes = lanes
        self._made: list[Lane] = []

    def one(self, options: Mapping[str, str] | None = None) -> Lane:
        """A lane for one duty."""
        self._made.append(lane := self._lanes.leader(self.holder, options))
        return lane

    async def rest(self) -> None:
        """Close the connections until they are needed again."""
        await asyncio.gather(*(lane.rest() for lane in self._made))


async def _check_servers(
    settings: Settings,
    transport: RedisTransport,
    stop: asyncio.Event,
    postgres: Outage,
    redis: Outage,
    *,
    migrate: bool,
) -> None:
    """Look at Redis once, and go on without it; wait for PostgreSQL with a schema that fits, saying what is missing.

    Raises SchemaMismatch, AccessDenied or ConfigurationError: what waiting does not mend.
    """
    try:
        policy = await transport.policy()
    except TransportAccessDenied as error:
        raise AccessDenied(str(error)) from None
    except TransportUnavailable as error:
        redis.down(error)
    else:
        if policy not in ("noeviction", ""):
            log.logger().warning("Redis may throw entries away: set maxmemory-policy to noeviction", policy=policy)

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


async def _check_schema(settings: PostgresSettings, migrate: bool) -> None:
    dsn = settings.dsn
    if migrate and settings.pooled:
        raise ConfigurationError(POOLED)
    if migrate:
        await aside(apply_migrations, dsn)
    missing = await aside(functools.partial(pending_migrations, dsn, pooled=settings.pooled))
    if missing:
        raise SchemaMismatch(f"the database's schema lacks {', '.join(missing)}: run `taskd migrate`")
