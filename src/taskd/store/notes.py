"""What running attempts say of themselves."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from taskd.domain.fencing import Note
from taskd.domain.job import AttemptId
from taskd.store.lane import Lane
from taskd.store.statements import statement

NOTE = statement("note")


class PostgresNotes:
    """Implements `taskd.seams.Notes`."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def write(self, notes: Sequence[Note]) -> set[AttemptId]:
        """Write these durably, in one statement; the attempts whose claim still held."""
        ordered = sorted(notes, key=lambda note: note.job_id)
        document = msgspec.json.encode([_row(note) for note in ordered]).decode()
        return {AttemptId(job_id, attempt) for job_id, attempt in await self._lane.fetch(NOTE, {"notes": document})}


def _row(note: Note) -> dict[str, object]:
    """One note as note.sql reads it: JSON as text, so that a checkpoint of null is one."""
    return {
        "id": note.job_id,
        "attempt": note.attempt,
        "session": note.session,
        "progress": note.progress.decode() if note.progress is not None else None,
        "checkpoint": note.checkpoint.decode() if note.checkpoint is not None else None,
    }
