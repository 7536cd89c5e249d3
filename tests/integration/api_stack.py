"""The API as a scheduler serves it, with the real store and real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

from taskd.api import build
from taskd.config import ConfigEditor
from taskd.domain.explain.situation import Timings
from taskd.runtime.config import Config
from taskd.runtime.serve import Address, serving
from taskd.seams import Coordinator, Transport
from taskd.settings import HttpSettings
from taskd.store.cancels import PostgresCancels
from taskd.store.config import PostgresConfigStore
from taskd.store.explained import PostgresExplained
from taskd.store.intake import PostgresIntake
from taskd.store.lane import Lane, Lanes
from taskd.store.logs import PostgresLogReader
from taskd.store.reads import PostgresReads
from taskd.store.retries import PostgresRetries
from taskd.store.schedules import PostgresSchedules
from taskd.store.terms import PostgresTerms
from taskd.store.tokens import PostgresTokens
from tests.unit.api_world import Recorder

DEADLINE = 1.5


@asynccontextmanager
async def api_on(dsn: str, settings: HttpSettings | None = None) -> AsyncIterator[Address]:
    """Serve the API for the database at `dsn` on a free port. Leadership and registry are set by the test."""
    world = Recorder()
    async with AsyncExitStack() as stack:
        duties = ("single", "bulk", "cancel", "retry", "terms", "live", "tokens", "schedules", "explain")
        single, bulk, cancel, retry, terms, live, tokens, schedules, explain = (
            Lane(dsn, name=f"test:{n}", deadline=DEADLINE) for n in duties
        )
        reads = Lanes(dsn, name="test:reads", deadline=DEADLINE, size=2)
        for lane in (single, bulk, cancel, retry, terms, live, tokens, schedules, explain, reads):
            stack.push_async_callback(cast(Any, lane).close)
        api = build(
            intake=PostgresIntake(single, bulk, deadline=DEADLINE, stored=lambda: None),
            cancels=PostgresCancels(cancel, stopped=lambda _: None),
            retries=PostgresRetries(retry, stored=lambda: None),
            reads=PostgresReads(reads),
            log_reader=PostgresLogReader(reads),
            terms=PostgresTerms(terms),
            coordinator=cast(Coordinator, world),
            standing=world,
            editor=ConfigEditor(PostgresConfigStore(live), cast(Coordinator, world), Config()),
            tokens=PostgresTokens(tokens),
            schedules=PostgresSchedules(schedules, changed=lambda: None),
            settings=settings or HttpSettings(),
            explained=PostgresExplained(explain),
            transport=cast(Transport, world),
            timings=Timings(),
            allow_anonymous=True,
        )
        yield await stack.enter_async_context(serving(api, "127.0.0.1:0", "--http-addr", closing=api.close))
