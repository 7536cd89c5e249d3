"""The header Idempotency-Key: the same request again makes no second job (draft-ietf-httpapi-idempotency-key-header).

It is kept as a dedupe_key under a prefix of its own, so that one mechanism and one table see to both. A token's keys are its
own: behind the prefix stand a space, which no key has, and the token's id. The dedupe keys of tokens for some queues are kept
apart by queue in the same way, so that none of them can take, or learn of, a key of another queue.
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
from taskd.domain.token import Token

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


def with_key(spec: JobSpec, key: str | None, caller: Token) -> JobSpec:
    """The job with a dedupe_key made of its request's `key`, unless it has one of its own, which may be its queue's only."""
    if spec.dedupe_key is not None:
        return _scoped(spec, caller)
    return spec if key is None else _keyed(spec, key, caller)


def with_keys(specs: Sequence[JobSpec], key: str | None, body: bytes, caller: Token) -> list[JobSpec]:
    """The same for a batch: each job's key has its place, and a fingerprint of the whole `body`.

    So the key of one batch never finds the jobs of another one, which would be lost by that. (A key has no spaces.)
    """
    if key is None:
        return [with_key(spec, None, caller) for spec in specs]
    prefix = f"{key} {hashlib.sha256(body).hexdigest()[:16]}"
    return [with_key(spec, f"{prefix} {place}", caller) for place, spec in enumerate(specs)]


def _keyed(spec: JobSpec, key: str, caller: Token) -> JobSpec:
    if not caller.id:
        return msgspec.structs.replace(spec, dedupe_key=f"{PREFIX}{key}")
    own = f"{PREFIX} @{caller.id} {key}"
    return msgspec.structs.replace(spec, dedupe_key=own, former_key=f"{PREFIX}{key}")


def _scoped(spec: JobSpec, caller: Token) -> JobSpec:
    if caller.queues is None:
        return spec
    # A queue's name begins with no @.
    own = f"{PREFIX} {spec.queue} {spec.dedupe_key}"
    return msgspec.structs.replace(spec, own_key=own, former_key=spec.dedupe_key)


def reused(spec: JobSpec, first: Job) -> Problem | None:
    """The 422 for a key that was used for another request, if `first` is not the job that `spec` asks for."""
    if spec.dedupe_key is None or not spec.dedupe_key.startswith(PREFIX):
        return None
    if all(_text(getattr(spec, name)) == _text(getattr(first, name)) for name in SAME):
        return None
    return invalid(FieldError(HEADER, f"was used for another request, which made job {first.id}: use a new key"))


def _text(value: object) -> object:
    return bytes(value) if isinstance(value, msgspec.Raw) else value
