"""The live configuration: flat keys and JSON values that may be changed while everything runs.

A key that is not set follows each process's own settings. A version is a whole set of values, so no process ever sees half of
a change.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from taskd.domain import constraints
from taskd.domain.errors import InvalidLiveValue
from taskd.domain.job import MAX_NAME, JobStatus

#: Seconds, at most 100 years.
Keep = Annotated[float, Meta(gt=0, le=3_155_760_000)]
#: One life of a worker, as GET /workers shows it.
Incarnation = Annotated[str, Meta(pattern=r"^[0-9a-f-]{36}$")]
Slots = Annotated[int, Meta(ge=1, le=10_000)]


class ConfigRule(NamedTuple):
    """One kind of key: its pattern, the type of its value, and its meaning.

    In the pattern, a name in capitals stands for any name. `wanted` describes the value where the type does not do so well.
    """

    key: str
    kind: Any
    meaning: str
    wanted: str = ""

    def matches(self, key: str) -> bool:
        """Return True if `key` is of this kind."""
        before, _, after = re.sub(r"[A-Z]+", "\0", self.key).partition("\0")
        if "\0" not in re.sub(r"[A-Z]+", "\0", self.key):
            return key == self.key
        name = key[len(before) : len(key) - len(after)]
        return (
            key.startswith(before)
            and key.endswith(after)
            and 0 < len(name) <= MAX_NAME
            and len(key) > len(before + after)
        )


RULES = (
    ConfigRule("queue.NAME.paused", bool, "true: nothing of this queue is dispatched or fetched; what runs goes on"),
    ConfigRule(
        "queue.NAME.weight",
        Annotated[int, Meta(ge=1, le=100)],
        "its share where a worker serves several queues; else 1",
    ),
    ConfigRule("worker.concurrency", Slots, "the slots of every worker"),
    ConfigRule("worker.ID.concurrency", Slots, "the slots of this worker"),
    ConfigRule("worker.ID.quiet", bool, "true: this worker takes nothing new; what runs goes on"),
    ConfigRule(
        "worker.ID.drain",
        Incarnation,
        "the incarnation of this worker that is to drain and end",
        "an incarnation, as GET /workers shows it",
    ),
    ConfigRule("history.keep_completed", Keep, "seconds for which completed jobs are kept"),
    ConfigRule("history.keep_failed", Keep, "seconds for which failed jobs are kept"),
    ConfigRule("history.keep_cancelled", Keep, "seconds for which cancelled jobs are kept"),
    ConfigRule("log.level", Literal["DEBUG", "INFO", "WARNING", "ERROR"], "the log level of every process"),
)

Values = Mapping[str, Any]


def known(key: str) -> ConfigRule:
    """The rule for this key. Raises InvalidLiveValue, which says which keys there are."""
    found = next((rule for rule in RULES if rule.matches(key)), None)
    if found is None:
        keys = ", ".join(rule.key for rule in RULES)
        raise InvalidLiveValue(f"{key!r} is no live setting; there are {keys}")
    return found


def check(key: str, value: object) -> Any:
    """The value as it is kept. Raises InvalidLiveValue, which says what the key takes."""
    rule = known(key)
    try:
        return msgspec.convert(value, rule.kind)
    except msgspec.ValidationError:
        must = f"must be {rule.wanted}" if rule.wanted else constraints.rule(rule.kind)
        raise InvalidLiveValue(f"{key}: {must}, not {json.dumps(value)}") from None


def operates(key: str) -> bool:
    """Return True if the key stops, starts or spreads work. Other keys change retention and logging."""
    return key.startswith(("queue.", "worker."))


def concerns_only(key: str, queue: str) -> bool:
    """Return True if the key concerns this queue alone."""
    return key in (f"queue.{queue}.paused", f"queue.{queue}.weight")


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One version of the live configuration, with its author (`who`), time and change (`what`). Version 0 has no values."""

    version: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    at: datetime | None = None
    who: str = ""
    what: str = ""
    values: dict[str, Any] = {}

    def paused(self, queue: str) -> bool:
        """Return True if the queue is paused."""
        return bool(self.values.get(f"queue.{queue}.paused", False))

    def weight(self, queue: str) -> int:
        """Return the queue's share beside other queues."""
        return int(self.values.get(f"queue.{queue}.weight", 1))

    def concurrency(self, worker_id: str) -> int | None:
        """Return the slots of a worker; None if they are not set."""
        found: int | None = self.values.get(f"worker.{worker_id}.concurrency", self.values.get("worker.concurrency"))
        return found

    def quiet(self, worker_id: str) -> bool:
        """Return True if the worker takes no new jobs."""
        return bool(self.values.get(f"worker.{worker_id}.quiet", False))

    def drains(self, worker_id: str, incarnation: object) -> bool:
        """Return True if this incarnation of the worker is asked to end."""
        return bool(self.values.get(f"worker.{worker_id}.drain") == str(incarnation))

    def keep(self, status: JobStatus) -> float | None:
        """Return the seconds for which jobs of this final status are kept; None if they are not set."""
        found: float | None = self.values.get(f"history.keep_{status}")
        return found

    @property
    def log_level(self) -> Literal["DEBUG", "INFO", "WARNING", "ERROR"] | None:
        """The log level; None if it is not set."""
        return self.values.get("log.level")


_decoder = msgspec.json.Decoder(Version)


def decode(text: bytes) -> Version:
    """Return a version from its JSON. Raises msgspec.MsgspecError if it is malformed, or one of its values is not valid."""
    found = _decoder.decode(text)
    try:
        values = {key: check(key, value) for key, value in found.values.items()}
    except InvalidLiveValue as error:
        raise msgspec.ValidationError(str(error)) from None
    return msgspec.structs.replace(found, values=values)


def encode(version: Version) -> bytes:
    """Return the JSON of a version."""
    return msgspec.json.encode(version)
