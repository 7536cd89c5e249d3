"""The output of attempts: what they log and print."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from taskd.domain.job import AttemptId
from taskd.domain.output import Chunk, Line, LogPosition, Output, StoredChunk
from taskd.store.batches import AttemptRow, write_batch
from taskd.store.lane import PAGE_BYTES, Lane, Lanes, int_array
from taskd.store.statements import statement

LOG = statement("log")
LOGS = statement("logs")
EXPORT_LOGS = statement("export_logs")

_body = msgspec.json.Decoder(list[Line])


class PostgresLogStore:
    """Implements `taskd.seams.LogStore`."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def write(self, outputs: Sequence[Output]) -> set[AttemptId]:
        return await write_batch(self._lane, LOG, "outputs", map(_row, outputs))


class _Chunk(msgspec.Struct, frozen=True):
    line: int
    lines: int
    body: msgspec.Raw


class _OutputRow(AttemptRow, frozen=True, omit_defaults=True, kw_only=True):
    """One attempt's output as log.sql reads it. StoredChunk chunks that begin from line `first` to below `wanted` make way."""

    chunks: list[_Chunk]
    first: int
    wanted: int


def _row(output: Output) -> _OutputRow:
    first, wanted = output.gone
    return _OutputRow(
        id=output.job_id,
        attempt=output.attempt,
        session=output.session,
        chunks=[_chunk(chunk) for chunk in output.chunks],
        first=first,
        wanted=wanted,
    )


def _chunk(chunk: Chunk) -> _Chunk:
    return _Chunk(chunk.line, chunk.lines, msgspec.Raw(chunk.body))


class PostgresLogReader:
    """Implements `taskd.seams.LogReader`."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes

    async def read(self, job_id: int, attempt: int | None, after: LogPosition, limit: int) -> list[StoredChunk]:
        parameters = {
            "id": job_id,
            "only": attempt,
            "attempt": after.attempt,
            "line": after.line,
            "limit": limit,
        }
        rows = await self._lanes.fetch(LOGS, parameters)
        return [StoredChunk(number, line, _body.decode(body)) for number, line, body in rows]

    async def of(self, job_ids: Collection[int]) -> dict[int, list[StoredChunk]]:
        ids = list(job_ids)
        rows = await self._lanes.fetch(EXPORT_LOGS, {"ids": int_array(ids), "budget": PAGE_BYTES})
        chunks: dict[int, list[StoredChunk]] = {job_id: [] for job_id in ids[: rows[0][0]]}
        for _, job_id, attempt, line, body in rows:
            if job_id is not None:
                chunks[job_id].append(StoredChunk(attempt, line, _body.decode(body)))
        return chunks
