"""I18: progress and checkpoints of attempts.

Each attempt writes into the trace the checkpoint that it was given, those that it saves, and those of them that were stored.
Its steps go on from the given checkpoint, so they only go up.
"""

from __future__ import annotations

from typing import NamedTuple

from taskd.torture.checker.ledger import Ledger
from taskd.torture.history import History, Sign

#: The two write the same number, one of them by way of JSON.
ROUNDING = 1e-6


class Checkpoint(NamedTuple):
    """The attempt that saved it, and that attempt's step; (0, 0) stands for none."""

    attempt: int
    step: int


def check(history: History, ledger: Ledger) -> None:
    """Check each checkpoint that was given to an attempt, and the progress of each completed job."""
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
            ledger.count("I18")
            _check_given(ledger, job_id, attempt, given, handed_in, stored, before)
            before = attempt, given
        for sign in signs:
            if sign.what == "save":
                handed_in.add(Checkpoint(attempt, int(sign.detail[0])))
            elif sign.what == "saved":
                stored = Checkpoint(attempt, max(stored.step, int(sign.detail[0])))


def _given(signs: list[Sign]) -> Checkpoint | None:
    """Return the checkpoint that an attempt was given; None if it wrote nothing about it."""
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
    what = f"attempt {attempt} was given step {given.step} of attempt {given.attempt}"
    ledger.require("I18", job_id, given in handed_in, f"{what}, which no attempt had saved")
    message = f"{what}, but step {stored.step} of attempt {stored.attempt} had been stored"
    ledger.require("I18", job_id, given.step >= stored.step, message)
    if before is not None:
        # Only this last attempt, or later ones, may have saved since it began.
        last, known = before
        message = (
            f"{what}, which lost its claim to attempt {last}; that one was given step {known.step} of {known.attempt}"
        )
        ledger.require("I18", job_id, given.attempt >= last or given == known, message)


def _check_progress(history: History, ledger: Ledger, job_id: int, attempts: dict[int, list[Sign]]) -> None:
    """Check that a completed job shows the last progress of its last attempt."""
    row = history.row_of.get(job_id)
    if row is None or row.status != "completed":
        return
    fractions = [float(sign.detail[0]) for sign in attempts.get(row.attempt, []) if sign.what == "told"]
    if fractions:
        ledger.count("I18")
        shown = row.progress
        right = shown is not None and shown.attempt == row.attempt and abs(shown.fraction - fractions[-1]) < ROUNDING
        seen = f"attempt {shown.attempt} at {shown.fraction:g}" if shown else "none"
        message = f"attempt {row.attempt} was at {fractions[-1]:g} when it completed; the progress shown is: {seen}"
        ledger.require("I18", job_id, right, message)
