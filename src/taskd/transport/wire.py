"""What a stream entry says: one field `d` with `VERSION:JOB:SEQ`. And a message about jobs: their ids, with commas."""

from __future__ import annotations

from collections.abc import Iterable

VERSION = "1"
FIELD = "d"


def encode(job_id: int, seq: int) -> str:
    """The value of the field."""
    return f"{VERSION}:{job_id}:{seq}"


def decode(value: str) -> tuple[int, int] | None:
    """(job_id, seq), or None for what this version cannot read: such an entry is discarded, and its job rung again."""
    version, _, rest = value.partition(":")
    job_id, _, seq = rest.partition(":")
    if version != VERSION or not (job_id.isdecimal() and seq.isdecimal()):
        return None
    return int(job_id), int(seq)


def encode_ids(job_ids: Iterable[int]) -> str:
    """A message that names jobs."""
    return ",".join(map(str, job_ids))


def decode_ids(text: str) -> frozenset[int]:
    """The jobs that a message names; what is no id is passed over."""
    return frozenset(int(part) for part in text.split(",") if part.isascii() and part.isdecimal() and len(part) < 20)
