"""What `taskd doctor` finds about one thing, and what mends it."""

from __future__ import annotations

from typing import Literal

import msgspec

Level = Literal["ok", "note", "wrong"]


class Finding(msgspec.Struct, frozen=True):
    """One line of the diagnosis. What is `wrong` keeps taskd from working as promised, a `note` may do so one day.

    `mend` says what to do about it.
    """

    subject: str
    level: Level
    text: str
    mend: str = ""


def ok(subject: str, text: str) -> Finding:
    """All is well."""
    return Finding(subject, "ok", text)


def note(subject: str, text: str, mend: str) -> Finding:
    """It works, but."""
    return Finding(subject, "note", text, mend)


def wrong(subject: str, text: str, mend: str) -> Finding:
    """It does not work, or not as promised."""
    return Finding(subject, "wrong", text, mend)
