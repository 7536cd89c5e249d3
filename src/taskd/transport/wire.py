"""Reads and writes the values in Redis. Any program may write there, so each reader checks form and bounds.

A stream entry has the field `d` with `VERSION:JOB:SEQ`. A message about jobs has their ids, separated by commas.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from taskd.seams import LeaderView

VERSION = "1"
FIELD = "d"
#: The ranges of PostgreSQL's bigint and int, which hold a job's id and dispatch_seq.
MAX_ID, MAX_SEQ = 2**63 - 1, 2**31 - 1
#: The most ids in one message, and the most characters that such a message has.
MAX_IDS = 3000
MAX_MESSAGE = MAX_IDS * 20
#: The most bytes of a leader's view.
MAX_VIEW = 256

_ENTRY = re.compile(r"1:([1-9][0-9]{0,18}):(0|[1-9][0-9]{0,9})")
_ID = re.compile(r"[1-9][0-9]{0,18}")
_INCARNATION = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class _View(msgspec.Struct, frozen=True):
    epoch: Annotated[int, Meta(ge=0, le=MAX_ID)]
    postgres: bool


_view = msgspec.json.Decoder(_View)


class Ids(NamedTuple):
    """The job ids of one message, and the number of its malformed parts."""

    ids: frozenset[int]
    malformed: int


def encode(job_id: int, seq: int) -> str:
    """Return the value of an entry's field."""
    return f"{VERSION}:{job_id}:{seq}"


def decode(value: object) -> tuple[int, int] | None:
    """Return (job_id, seq), or None for an unreadable value: such an entry is removed, and its job re-offered."""
    found = _ENTRY.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    job_id, seq = int(found[1]), int(found[2])
    return (job_id, seq) if job_id <= MAX_ID and seq <= MAX_SEQ else None


def encode_ids(job_ids: Iterable[int]) -> Iterator[str]:
    """Yield messages that name all these jobs, each one short enough for `decode_ids`."""
    left = iter(job_ids)
    while part := ",".join(map(str, islice(left, MAX_IDS))):
        yield part


def decode_ids(text: object) -> Ids:
    """Return the jobs that a message names. A message that is too long counts as one malformed part."""
    if not isinstance(text, str) or len(text) > MAX_MESSAGE:
        return Ids(frozenset(), 1)
    parts = text.split(",") if text else []
    ids = [int(part) for part in parts if _ID.fullmatch(part)]
    good = frozenset(job_id for job_id in ids if job_id <= MAX_ID)
    return Ids(good, sum(1 for part in parts if not _ID.fullmatch(part)) + sum(job_id > MAX_ID for job_id in ids))


def decode_view(text: object) -> LeaderView | None:
    """Return the leader's view from its JSON, or None if it is malformed."""
    if not isinstance(text, str) or len(text) > MAX_VIEW:
        return None
    try:
        found = _view.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return LeaderView(found.epoch, found.postgres)


def is_incarnation(text: object) -> bool:
    """Return True for an id of Redis's memory in the form that taskd writes."""
    return isinstance(text, str) and _INCARNATION.fullmatch(text) is not None


def decode_found(reply: object) -> list[tuple[str, str, str]]:
    """Return (stream, entry, value) for each entry in a reply of XREADGROUP; the value is empty where field `d` is missing."""
    found: list[tuple[str, str, str]] = []
    streams = reply.items() if isinstance(reply, dict) else []
    for stream, entries in streams:
        for entry, fields in _pairs(entries):
            value = fields.get(FIELD) if isinstance(fields, dict) else None
            found.append((str(stream), str(entry), value if isinstance(value, str) else ""))
    return found


def _pairs(entries: object) -> Iterator[tuple[object, object]]:
    for entry in entries if isinstance(entries, Sequence) and not isinstance(entries, str) else ():
        if isinstance(entry, Sequence) and len(entry) == 2:
            yield entry[0], entry[1]
