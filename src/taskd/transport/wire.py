"""What a stream entry says: one field `d` with `VERSION:JOB:SEQ`."""

from __future__ import annotations

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
