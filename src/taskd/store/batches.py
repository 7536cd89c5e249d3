"""Batches of attempts' rows, each under its claim: one JSON document, one statement."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from uuid import UUID

import msgspec

from taskd.domain.job import AttemptId
from taskd.store.lane import Lane

UNTIMED = nullcontext()


class AttemptRow(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A row of a batch. The claim (id, attempt, session) is its fence; fields that have their default are left out."""

    id: int
    attempt: int
    session: UUID


async def write_batch(
    lane: Lane,
    statement: str,
    parameter: str,
    rows: Iterable[AttemptRow],
    *,
    timed: AbstractContextManager[object] = UNTIMED,
) -> set[AttemptId]:
    """Run a statement on these rows, as its JSON `parameter`; return the attempts that it answers.

    The rows go in the order of their jobs: in that order every statement locks several jobs. The statement runs in `timed`.
    """
    ordered = sorted(rows, key=lambda row: (row.id, row.attempt))
    document = msgspec.json.encode(ordered).decode()
    with timed:
        answer = await lane.fetch(statement, {parameter: document})
    return {AttemptId(*row) for row in answer}
