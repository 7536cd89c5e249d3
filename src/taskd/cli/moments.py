"""Instants in the same short form in every view, in local time or, with --utc, in UTC."""

from __future__ import annotations

import re
from contextvars import ContextVar
from datetime import UTC, datetime, tzinfo
from typing import Annotated

import typer

_zone: ContextVar[tzinfo | None] = ContextVar("zone", default=None)
_INSTANT = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)")


def _choose(utc: bool) -> None:
    if utc:
        _zone.set(UTC)


UtcOption = Annotated[
    bool, typer.Option("--utc", callback=_choose, help="Show times in UTC; default: in your local time.")
]


def reset() -> None:
    """Show local times until an option selects UTC."""
    _zone.set(None)


def zone() -> tzinfo | None:
    """Return the time zone of all views; None is the local one."""
    return _zone.get()


def zone_name() -> str:
    """Return the zone's name for a heading."""
    return "UTC" if zone() is UTC else "local time"


def moment(text: object, *, fine: bool = False) -> str:
    """Return an instant of the API as in `2026-11-23 13:28:54`, in UTC with a Z behind it; `fine`: to the millisecond.

    Text that is not an instant is returned unchanged.
    """
    try:
        when = datetime.fromisoformat(str(text)).astimezone(zone())
    except (ValueError, OverflowError):
        return str(text)
    milliseconds = f".{when.microsecond // 1000:03d}" if fine else ""
    return f"{when:%Y-%m-%d %H:%M:%S}{milliseconds}{'Z' if zone() is UTC else ''}"


def clock(text: str) -> str:
    """Return the time of day of an instant, to the millisecond."""
    return moment(text, fine=True).rpartition(" ")[2]


def in_text(text: str) -> str:
    """Return a sentence of the API with each instant in it as `moment` shows it."""
    return _INSTANT.sub(lambda match: moment(match[0]), text)
