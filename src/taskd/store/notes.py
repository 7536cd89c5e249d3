"""Notes: the progress and checkpoints of running attempts."""

from __future__ import annotations

from collections.abc import Sequence

from taskd.domain.fencing import Note
from taskd.domain.job import AttemptId
from taskd.store.batches import AttemptRow, write_batch
from taskd.store.lane import Lane
from taskd.store.statements import statement

NOTE = statement("note")


class PostgresNoteStore:
    """Implements `taskd.seams.NoteStore`."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def write(self, notes: Sequence[Note]) -> set[AttemptId]:
        return await write_batch(self._lane, NOTE, "notes", map(_row, notes))


class _NoteRow(AttemptRow, frozen=True, omit_defaults=True, kw_only=True):
    """One note as note.sql reads it: JSON as text, so that a checkpoint of null is one."""

    progress: str | None = None
    checkpoint: str | None = None


def _row(note: Note) -> _NoteRow:
    return _NoteRow(
        id=note.job_id,
        attempt=note.attempt,
        session=note.session,
        progress=note.progress.decode() if note.progress is not None else None,
        checkpoint=note.checkpoint.decode() if note.checkpoint is not None else None,
    )
