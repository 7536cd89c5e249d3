"""Test the writing of notes: the latest counts, also while PostgreSQL is away, and each checkpoint is answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from taskd.domain.errors import Rejected, StoreUnavailable
from taskd.domain.fencing import Note
from taskd.domain.job import AttemptId
from taskd.worker import notes as notes_module
from taskd.worker.notes import NoteWriter
from taskd.worker.pool.protocol import Answer, Denial, NoteMessage
from tests.servers import wait_until_async
from tests.unit.claims import SESSION, claim


class FakeStore:
    """Fake store of notes. It may be `away`, and refuses notes of jobs in `bad`; the claims of jobs in `gone` are over."""

    def __init__(self) -> None:
        self.away = False
        self.bad: set[int] = set()
        self.gone: set[int] = set()
        self.tries = 0
        self.written: list[list[Note]] = []

    async def write(self, notes: Sequence[Note]) -> set[AttemptId]:
        self.tries += 1
        if self.away:
            raise StoreUnavailable("away")
        if self.bad & {note.job_id for note in notes}:
            raise Rejected("no")
        self.written.append(list(notes))
        return {AttemptId(note.job_id, note.attempt) for note in notes if note.job_id not in self.gone}


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def answers() -> list[Answer]:
    return []


@asynccontextmanager
async def writing(store: FakeStore) -> AsyncIterator[NoteWriter]:
    notes = NoteWriter(store, lambda key: claim(key[0]))
    task = asyncio.create_task(notes.write())
    try:
        yield notes
    finally:
        task.cancel()


def note(job_id: int, progress: bytes | None = None, checkpoint: bytes | None = None) -> Note:
    return Note(job_id=job_id, attempt=1, session=SESSION, progress=progress, checkpoint=checkpoint)


async def test_notes_of_many_attempts_are_one_statement_with_the_latest_of_each(
    store: FakeStore, answers: list[Answer]
) -> None:
    async with writing(store) as notes:
        for number in range(3):
            for job_id in (1, 2):
                notes.add(NoteMessage(job_id, 1, progress=b"%d" % number), answers.append)
        notes.add(NoteMessage(1, 1, 5, checkpoint=b"c"), answers.append)
        await wait_until_async(lambda: answers != [])
    assert store.written == [[note(1, b"2", b"c"), note(2, b"2")]]
    assert answers == [Answer(1, 1, 5)]
    assert notes.end(AttemptId(1, 1)) == (True, b"2")
    assert notes.end(AttemptId(1, 1)) == (False, None)
    assert notes.end(AttemptId(9, 1)) == (False, None)


async def test_while_postgresql_is_away_the_latest_note_waits_unless_its_attempt_has_ended(
    store: FakeStore, answers: list[Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notes_module, "OUTAGE", 0.01)
    store.away = True
    async with writing(store) as notes:
        for job_id in (1, 2):
            notes.add(NoteMessage(job_id, 1, 1, progress=b"old", checkpoint=b"1"), answers.append)
        await wait_until_async(lambda: store.tries > 0)
        notes.add(NoteMessage(1, 1, 2, checkpoint=b"2"), answers.append)
        await wait_until_async(lambda: store.tries > 3)
        assert notes.end(AttemptId(2, 1)) == (True, b"old")
        assert answers == []
        store.away = False
        await wait_until_async(lambda: len(answers) == 2)
    assert store.written[-1] == [note(1, b"old", b"2")]
    assert answers == [Answer(1, 1, 1), Answer(1, 1, 2)]


async def test_a_note_that_is_refused_or_fenced_off_harms_no_other(store: FakeStore, answers: list[Answer]) -> None:
    store.bad, store.gone = {2}, {3}
    async with writing(store) as notes:
        for job_id in (1, 2, 3):
            notes.add(NoteMessage(job_id, 1, 1, checkpoint=b"1"), answers.append)
        await wait_until_async(lambda: len(answers) == 3)
    assert [(answer.job_id, answer.denial) for answer in answers] == [
        (1, None),
        (2, Denial.FENCED),
        (3, Denial.FENCED),
    ]
