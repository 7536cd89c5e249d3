"""I18: what attempts said of themselves, and what became of it.

Each attempt writes into the trace which checkpoint it was handed, which it hands in, and which of those were stored. Its steps
go on from the one that it was handed, so they only go up.
"""

from __future__ import annotations

from typing import NamedTuple

from taskd.torture.checker.ledger import Ledger
from taskd.torture.history import History, Sign

#: The two write the same number, one of them by way of JSON.
ROUNDING = 1e-6


class Checkpoint(NamedTuple):
    """Who handed it in, and how far that one was; (0, 0) stands for none."""

    attempt: int
    step: int


def check(history: History, ledger: Ledger) -> None:
    """Look at each checkpoint that was handed out, and at the progress of each completed job."""
    for job_id, attempts in history.signs_of.items():
        _check_checkpoints(ledger, job_id, attempts)
        _check_progress(history, ledger, job_id, attempts)


def _check_checkpoints(ledger: Ledger, job_id: int, attempts: dict[int, list[Sign]]) -> None:
    handed_in: set[Checkpoint] = {Checkpoint(0, 0)}
    stored = Checkpoint(0, 0)
    before: tuple[int, Checkpoint] | None = None
    for attempt, signs in sorted(attempts.items()):
        given = _given(signs)
        if given is not None:
            ledger.look("I18")
            _check_given(ledger, job_id, attempt, given, handed_in, stored, before)
            before = attempt, given
        for sign in signs:
            if sign.what == "save":
                handed_in.add(Checkpoint(attempt, int(sign.detail[0])))
            elif sign.what == "saved":
                stored = Checkpoint(attempt, max(stored.step, int(sign.detail[0])))


def _given(signs: list[Sign]) -> Checkpoint | None:
    """What an attempt was handed, if it came so far as to tell."""
    return next((Checkpoint(int(s.detail[0]), int(s.detail[1])) for s in signs if s.what == "resume"), None)


def _check_given(
    ledger: Ledger,
    job_id: int,
    attempt: int,
    given: Checkpoint,
    handed_in: set[Checkpoint],
    stored: Checkpoint,
    before: tuple[int, Checkpoint] | None,
) -> None:
    what = f"attempt {attempt} was handed step {given.step} of attempt {given.attempt}"
    ledger.demand("I18", job_id, given in handed_in, f"{what}, which nobody had handed in")
    message = f"{what}, but step {stored.step} of attempt {stored.attempt} had been stored"
    ledger.demand("I18", job_id, given.step >= stored.step, message)
    if before is not None:
        # Nobody but this last one, or those after it, may have written since it began.
        last, known = before
        message = (
            f"{what}, who lost its claim to attempt {last}; that one was handed step {known.step} of {known.attempt}"
        )
        ledger.demand("I18", job_id, given.attempt >= last or given == known, message)


def _check_progress(history: History, ledger: Ledger, job_id: int, attempts: dict[int, list[Sign]]) -> None:
    """A completed job shows what its last attempt said last."""
    row = history.row_of.get(job_id)
    if row is None or row.status != "completed":
        return
    told = [float(sign.detail[0]) for sign in attempts.get(row.attempt, []) if sign.what == "told"]
    if told:
        ledger.look("I18")
        shown = row.progress
        right = shown is not None and shown.attempt == row.attempt and abs(shown.fraction - told[-1]) < ROUNDING
        seen = f"attempt {shown.attempt} at {shown.fraction:g}" if shown else "none"
        message = f"attempt {row.attempt} was at {told[-1]:g} when it completed; the progress shown is: {seen}"
        ledger.demand("I18", job_id, right, message)
