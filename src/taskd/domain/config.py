"""Live configuration: what may be changed while everything runs, as flat keys and JSON values.

What is not set follows each process's own settings. A version is a whole set of values, so that none is ever seen half-changed.
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
    """One kind of key: its pattern, where a name in capitals stands for any, the type of its value, what it does, and what a
    value must be, where its type does not say it well."""

    key: str
    kind: Any
    meaning: str
    wanted: str = ""

    def matches(self, key: str) -> bool:
        """Whether `key` is of this kind."""
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
    """Whether the key stops, starts or spreads work; the others change what is kept and told."""
    return key.startswith(("queue.", "worker."))


def concerns_only(key: str, queue: str) -> bool:
    """Whether the key is about this queue and nothing else."""
    return key in (f"queue.{queue}.paused", f"queue.{queue}.weight")


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One version of the live configuration: who made it when, and what they did. Version 0 has no values."""

    version: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    at: datetime | None = None
    who: str = ""
    what: str = ""
    values: dict[str, Any] = {}

    def paused(self, queue: str) -> bool:
        """Whether the queue stands still."""
        return bool(self.values.get(f"queue.{queue}.paused", False))

    def weight(self, queue: str) -> int:
        """The queue's share beside others."""
        return int(self.values.get(f"queue.{queue}.weight", 1))

    def concurrency(self, worker_id: str) -> int | None:
        """The slots of a worker, if somebody set them."""
        found: int | None = self.values.get(f"worker.{worker_id}.concurrency", self.values.get("worker.concurrency"))
        return found

    def quiet(self, worker_id: str) -> bool:
        """Whether the worker is to take nothing new."""
        return bool(self.values.get(f"worker.{worker_id}.quiet", False))

    def drains(self, worker_id: str, incarnation: object) -> bool:
        """Whether this life of the worker is to end."""
        return bool(self.values.get(f"worker.{worker_id}.drain") == str(incarnation))

    def keep(self, status: JobStatus) -> float | None:
        """Seconds for which jobs that ended so are kept, if somebody set them."""
        found: float | None = self.values.get(f"history.keep_{status}")
        return found

    @property
    def log_level(self) -> Literal["DEBUG", "INFO", "WARNING", "ERROR"] | None:
        """The log level, if somebody set it."""
        return self.values.get("log.level")


_decoder = msgspec.json.Decoder(Version)


def decode(text: bytes) -> Version:
    """A version from its JSON. Raises msgspec.MsgspecError if it is none, or one of its values cannot be used."""
    found = _decoder.decode(text)
    try:
        values = {key: check(key, value) for key, value in found.values.items()}
    except InvalidLiveValue as error:
        raise msgspec.ValidationError(str(error)) from None
    return msgspec.structs.replace(found, values=values)


def encode(version: Version) -> bytes:
    """The JSON of a version."""
    return msgspec.json.encode(version)
