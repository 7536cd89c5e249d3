"""The header Idempotency-Key: the same request again makes no second job (draft-ietf-httpapi-idempotency-key-header).

It is kept as a dedupe_key under a prefix of its own, so that one mechanism and one table see to both.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import msgspec

from taskd.api.call import Call
from taskd.api.problems import FieldError, Problem, invalid
from taskd.domain.job import Job, JobSpec
from taskd.domain.submission import RESERVED_PREFIX as PREFIX

HEADER = "Idempotency-Key"
MAX_KEY = 200
_KEY = re.compile(rb"[\x21-\x7e]{1,%d}" % MAX_KEY)
#: What two requests with one key must agree on; times may differ from one try to the next.
SAME = ("task", "queue", "priority", "max_retries", "timeout", "payload")


def key_of(call: Call) -> str | None:
    """The request's key, quoted or not; None if it has none. Raises a 422 Problem for one that is no key."""
    given = call.header(b"idempotency-key")
    if given is None:
        return None
    bare = given.strip().removeprefix(b'"').removesuffix(b'"')
    if not _KEY.fullmatch(bare):
        raise invalid(FieldError(HEADER, f"must be 1 to {MAX_KEY} printable ASCII characters without spaces"))
    return bare.decode()


def with_key(spec: JobSpec, key: str | None) -> JobSpec:
    """The job with a dedupe_key made of its request's `key`, unless it has one of its own."""
    return spec if key is None or spec.dedupe_key is not None else _keyed(spec, key)


def with_keys(specs: Sequence[JobSpec], key: str | None, body: bytes) -> list[JobSpec]:
    """The same for a batch: each job's key has its place, and a fingerprint of the whole `body`.

    So the key of one batch never finds the jobs of another one, which would be lost by that. (A key has no spaces.)
    """
    if key is None:
        return list(specs)
    prefix = f"{key} {hashlib.sha256(body).hexdigest()[:16]}"
    return [s if s.dedupe_key is not None else _keyed(s, f"{prefix} {place}") for place, s in enumerate(specs)]


def _keyed(spec: JobSpec, key: str) -> JobSpec:
    return msgspec.structs.replace(spec, dedupe_key=f"{PREFIX}{key}")


def reused(spec: JobSpec, first: Job) -> Problem | None:
    """The 422 for a key that was used for another request, if `first` is not the job that `spec` asks for."""
    if spec.dedupe_key is None or not spec.dedupe_key.startswith(PREFIX):
        return None
    if all(_text(getattr(spec, name)) == _text(getattr(first, name)) for name in SAME):
        return None
    return invalid(FieldError(HEADER, f"was used for another request, which made job {first.id}: use a new key"))


def _text(value: object) -> object:
    return bytes(value) if isinstance(value, msgspec.Raw) else value
