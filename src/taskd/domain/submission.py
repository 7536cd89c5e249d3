"""The fields of a submitted job, with their ranges: for the API, and for an App that checks options before it sends them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from taskd.domain import constraints
from taskd.domain.job import MAX_ID, MAX_NAME, MAX_PRIORITY, MAX_RETRIES, NAME

MAX_METADATA = 64
MAX_METADATA_TEXT = 1024
#: Ten years, in seconds: longer waits are a mistake in the unit.
MAX_SECONDS = 315_360_000
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 1, 1, tzinfo=UTC)
#: Dedupe keys that begin like this are made of requests' Idempotency-Key.
RESERVED_PREFIX = "idempotency-key:"

#: The name of a queue or a task.
Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME, pattern=NAME)]
Seconds = Annotated[float, Meta(ge=0, le=MAX_SECONDS)]
Whole = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Text = Annotated[str, Meta(max_length=MAX_METADATA_TEXT)]
Key = Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
Metadata = Annotated[dict[Key, Text | Whole | float | bool | None], Meta(max_length=MAX_METADATA)]


class BackoffFields(msgspec.Struct, forbid_unknown_fields=True):
    """Exponential backoff, in seconds."""

    initial: Seconds = 1.0
    factor: Annotated[float, Meta(ge=1, le=1000)] = 2.0
    max: Seconds = 3600.0
    jitter: bool = True


class JobFields(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The fields of every job, also of one that a schedule creates."""

    payload: msgspec.Raw
    task: Name = "default"
    queue: Name = "default"
    priority: Annotated[int, Meta(ge=0, le=MAX_PRIORITY)] = 0
    max_retries: Annotated[int, Meta(ge=0, le=MAX_RETRIES)] = 3
    retry_backoff: BackoffFields | None = None
    timeout: Annotated[float, Meta(gt=0, le=MAX_SECONDS)] | None = None
    metadata: Metadata = {}


class Submission(JobFields, kw_only=True):
    """The body of POST /jobs."""

    dedupe_key: Annotated[str, Meta(min_length=1, max_length=MAX_NAME)] | None = None
    schedule_at: Annotated[datetime, Meta(tz=True)] | None = None
    delay: Seconds | None = None
    parent_id: Annotated[int, Meta(ge=1, le=MAX_ID)] | None = None


class Refusal(NamedTuple):
    """A field that cannot be, and what is wrong with it."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


#: What types say too briefly, by the last part of the field's path.
RULES = {
    "metadata": f"must be an object of at most {MAX_METADATA} texts, numbers, true, false and null, by keys of 1 to 255"
    " characters",
    "schedule_at": "must be a datetime with a time zone: without one it names no instant",
}


def contradiction(given: Submission) -> Refusal | None:
    """Return the first refusal of what types cannot say: of the times of a job, and of its dedupe key."""
    if (given.dedupe_key or "").startswith(RESERVED_PREFIX):
        return Refusal("dedupe_key", f"must not begin with {RESERVED_PREFIX}: send the header Idempotency-Key")
    if given.schedule_at is not None:
        if given.delay is not None:
            return Refusal("delay", "cannot be given together with schedule_at")
        if not EARLIEST <= given.schedule_at <= LATEST:
            return Refusal("schedule_at", "must be between the years 1970 and 9998")
    return None


def refusal(options: Mapping[str, Any]) -> Refusal | None:
    """Return the first refusal of these fields of a Submission, given as Python values; None if all can be."""
    try:
        given = msgspec.convert({**options, "payload": msgspec.Raw(b"null")}, Submission)
    except msgspec.ValidationError as error:
        return _explained(str(error), options)
    unstorable = next(((name, why) for name, value in options.items() if (why := _unstorable(value)) is not None), None)
    return Refusal(*unstorable) if unstorable is not None else contradiction(given)


def _explained(text: str, options: Mapping[str, Any]) -> Refusal:
    """The decoder's message, with the field first."""
    message, _, place = text.partition(" - at ")
    path = place.strip("`").removeprefix("key` in `").removeprefix("$").removeprefix(".").replace("[...]", "")
    field = path or "options"
    rule = RULES.get(path.split(".")[-1])
    if rule is None:
        try:
            rule = constraints.rule(Submission, path)
        except LookupError:
            rule = message[:1].lower() + message[1:]
    value = options.get(path)
    return Refusal(field, rule if value is None else f"{rule}, not {value!r}"[:200])


def _unstorable(value: Any) -> str | None:
    """Return what keeps a value from being stored: a text that PostgreSQL refuses, a number that is none."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"must be a finite number, not {value!r}"
    if isinstance(value, str):
        if "\0" in value:
            return "must not contain the NUL character"
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            return f"must not contain lone surrogates, as {value!r} does"
    if isinstance(value, Mapping):
        return next((why for pair in value.items() for part in pair if (why := _unstorable(part)) is not None), None)
    return None
