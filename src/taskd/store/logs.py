"""What attempts have logged and printed."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from taskd.domain.job import AttemptId
from taskd.domain.output import Line, LogPosition, Output, StoredChunk
from taskd.store.lane import PAGE_BYTES, Lane, Lanes, int_array
from taskd.store.statements import statement

LOG = statement("log")
LOGS = statement("logs")
EXPORT_LOGS = statement("export_logs")

_body = msgspec.json.Decoder(list[Line])


class PostgresLogs:
    """Implements `taskd.seams.Logs`."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def write(self, outputs: Sequence[Output]) -> set[AttemptId]:
        """Store these in one statement; the attempts whose claim still held."""
        ordered = sorted(outputs, key=lambda output: (output.job_id, output.attempt))
        document = msgspec.json.encode([_row(output) for output in ordered]).decode()
        return {AttemptId(job_id, attempt) for job_id, attempt in await self._lane.fetch(LOG, {"outputs": document})}


def _row(output: Output) -> dict[str, object]:
    """One attempt's output as log.sql reads it."""
    first, wanted = output.gone
    return {
        "id": output.job_id,
        "attempt": output.attempt,
        "session": output.session,
        "chunks": [{"line": c.line, "lines": c.lines, "body": msgspec.Raw(c.body)} for c in output.chunks],
        "first": first,
        "wanted": wanted,
    }


class PostgresTranscripts:
    """Implements `taskd.seams.Transcripts`."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes

    async def read(self, job_id: int, attempt: int | None, after: LogPosition, limit: int) -> list[StoredChunk]:
        """At most `limit` chunks that begin after a place, in their order; of one attempt, or of all."""
        parameters = {
            "id": job_id,
            "only": attempt,
            "attempt": after.attempt,
            "line": after.line,
            "limit": limit,
        }
        return [
            StoredChunk(number, line, _body.decode(body))
            for number, line, body in await self._lanes.fetch(LOGS, parameters)
        ]

    async def of(self, job_ids: Collection[int]) -> dict[int, list[StoredChunk]]:
        """All chunks of these jobs, by job; of the first ones only, if those are large."""
        ids = list(job_ids)
        rows = await self._lanes.fetch(EXPORT_LOGS, {"ids": int_array(ids), "budget": PAGE_BYTES})
        found: dict[int, list[StoredChunk]] = {job_id: [] for job_id in ids[: rows[0][0]]}
        for _, job_id, attempt, line, body in rows:
            if job_id is not None:
                found[job_id].append(StoredChunk(attempt, line, _body.decode(body)))
        return found
