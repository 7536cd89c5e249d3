"""Outcomes: how one attempt ended. Every end is one of these values, never an exception."""

from __future__ import annotations

from datetime import datetime

import msgspec

from taskd.domain.job import Json


class Completed(msgspec.Struct, frozen=True, tag="completed"):
    """The task returned; `result` is its JSON. `recorded`: the task's own transaction has stored this end, and the result."""

    result: Json
    recorded: bool = False


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The task raised. `permanent` forbids retries; `again_at` is when the task itself wants the retry.

    `error` is a text for people, `traceback` where in the user's code it was raised.
    """

    error: str
    permanent: bool = False
    again_at: datetime | None = None
    traceback: str | None = None


class TimedOut(msgspec.Struct, frozen=True, tag="timed_out"):
    """The attempt ran for its whole time-out (`after`, in seconds) and was stopped; `traceback` is where it was then."""

    after: float
    traceback: str | None = None


class Crashed(msgspec.Struct, frozen=True, tag="crashed"):
    """The executor process ended while the attempt ran."""

    error: str


class Released(msgspec.Struct, frozen=True, tag="released"):
    """The worker gave the attempt back through no fault of the job's (shutdown, a neighbour's kill). Costs no retry."""

    reason: str


class Snoozed(msgspec.Struct, frozen=True, tag="snoozed"):
    """The task wants to run again after `delay` seconds. Costs no retry."""

    delay: float
    reason: str = ""


Outcome = Completed | Failed | TimedOut | Crashed | Released | Snoozed
