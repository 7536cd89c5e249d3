"""The patches of the mutants: each switches one protection off in the process that calls it, before taskd is imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def edit_statements(edits: dict[str, list[tuple[str, str]]]) -> Callable[[], None]:
    """Return a function that replaces parts of named statements. It raises AssertionError if a part is missing."""

    def apply() -> None:
        from taskd.store import statements  # noqa: PLC0415  before the modules that read statements are imported

        read = statements.statement

        def edited(name: str) -> str:
            text = read(name)
            for old, new in edits.get(name, []):
                assert old in text, f"{name}.sql has no {old!r}: correct the mutant"
                text = text.replace(old, new)
            return text

        statements.statement = edited

    return apply


def acknowledge_before_claim() -> None:
    from taskd.worker.fetcher import Fetcher  # noqa: PLC0415

    accept = Fetcher._accept

    async def acknowledge_first(self: Any, session: Any, deliveries: Any, *events: Any) -> None:
        await self._transport.decided(deliveries)
        await accept(self, session, deliveries, *events)

    Fetcher._accept = acknowledge_first  # type: ignore[method-assign,assignment]


def remove_grace() -> None:
    from datetime import UTC, datetime  # noqa: PLC0415

    from taskd.scheduler.reaper import Reaper  # noqa: PLC0415

    begin, reap = Reaper.__init__, Reaper._reap

    def without_lease(self: Any, *arguments: Any, **options: Any) -> None:
        begin(self, *arguments, **{**options, "lease": 0.0})

    async def at_once(self: Any, term: Any) -> None:
        self._before, self._asked_at, self._patient_until = datetime.now(UTC), 0.0, 0.0
        await reap(self, term)

    Reaper.__init__ = without_lease  # type: ignore[method-assign]
    Reaper._reap = at_once  # type: ignore[method-assign]


def create_group_at_end() -> None:
    from redis.asyncio import Redis  # noqa: PLC0415

    create = Redis.xgroup_create

    def create_at_end(self: Any, *arguments: Any, **options: Any) -> Any:
        return create(self, *arguments, **{**options, "id": "$"})

    Redis.xgroup_create = create_at_end  # type: ignore[method-assign]


def ignore_shards() -> None:
    from taskd.domain.fencing import Term  # noqa: PLC0415

    own_shard = "taskd.shard_of(queue, %(shards)s) = %(shard)s"
    edit_statements({"dispatch": [(own_shard, "true")]})()
    Term.owns = lambda self, queue: True  # type: ignore[method-assign]


def count_snoozes_as_failures() -> None:
    from msgspec.structs import replace as changed  # noqa: PLC0415

    from taskd.domain import outcome, retry  # noqa: PLC0415

    decide = retry.decide

    def count_snoozes(ended: Any, *arguments: Any, **options: Any) -> Any:
        verdict = decide(ended, *arguments, **options)
        return changed(verdict, counter=retry.Counter.FAILURES) if isinstance(ended, outcome.Snoozed) else verdict

    retry.decide = count_snoozes  # type: ignore[assignment]


def ignore_lost_locks() -> None:
    from taskd.worker.locks import AttemptLocks  # noqa: PLC0415

    begin = AttemptLocks.__init__

    def without_callback(self: Any, coordinator: Any, on_lost: Any, worker_id: str = "") -> None:
        begin(self, coordinator, lambda attempt_id, name: None, worker_id)

    AttemptLocks.__init__ = without_callback  # type: ignore[method-assign]


def remove_guard_lease() -> None:
    from taskd.worker.pool.guard_client import GuardClient  # noqa: PLC0415

    GuardClient.lease = lambda self, until: None  # type: ignore[method-assign]
