"""Reads the values in etcd. Any program may write there, so each reader checks form and bounds.

A reader returns None for a malformed value. It never raises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

import msgspec

from taskd.domain import config
from taskd.domain.config import Version
from taskd.domain.explain.situation import Holder
from taskd.seams import Member
from taskd.seams.coordinator import Identifier, Text

T = TypeVar("T")

#: Bytes of the longest value that is read: etcd itself takes requests of 1.5 MiB, unless it is told otherwise.
LONGEST = 2 * 1024 * 1024
#: The longest candidacy, holder and fence.
SHORT = 16 * 1024
#: The largest start of fences: microseconds of Unix time until the year 2255, and exact in every JSON reader.
MAX_FENCE = 2**53


class Candidate(msgspec.Struct, frozen=True):
    """The value of a candidate's key."""

    instance_id: Text
    holder: UUID


class _Holder(msgspec.Struct, frozen=True, kw_only=True):
    job_id: Identifier | None = None
    attempt: Identifier | None = None
    worker_id: Text | None = None
    host: Text | None = None
    pid: Identifier | None = None


_candidate = msgspec.json.Decoder(Candidate)
_member = msgspec.json.Decoder(Member)
_holder = msgspec.json.Decoder(_Holder)


def candidate(data: bytes) -> Candidate | None:
    """Return a candidate for an election."""
    return _read(_candidate.decode, data, SHORT)


def member(data: bytes) -> Member | None:
    """Return one live process."""
    return _read(_member.decode, data, LONGEST)


def version(data: bytes) -> Version | None:
    """Return a version of the live configuration whose values are all valid."""
    return _read(config.decode, data, LONGEST)


def holder(data: bytes) -> Holder | None:
    """Return the holder of a lock."""
    value = _read(_holder.decode, data, SHORT)
    return Holder(**msgspec.structs.asdict(value)) if value is not None else None


def fence(data: bytes) -> int | None:
    """Return the start of the fences of locks."""
    if not (data.isdigit() and len(data) <= len(str(MAX_FENCE))):
        return None
    start = int(data)
    return start if 0 < start <= MAX_FENCE else None


def _read(decode: Callable[[bytes], T], data: bytes, longest: int) -> T | None:
    if len(data) > longest:
        return None
    try:
        return decode(data)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        return None
