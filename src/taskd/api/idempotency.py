"""The header Idempotency-Key: a repeated request makes no second job (draft-ietf-httpapi-idempotency-key-header).

The key is stored as a dedupe_key with a prefix of its own, so one mechanism and one table serve both. Each token has its own
keys: after the prefix come a space, which no key contains, and the token's id. The dedupe keys of tokens that are restricted
to queues are kept apart by queue in the same way. Such a token can neither use nor detect a key of another queue.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import msgspec

from taskd.api.problems import FieldError, Problem, invalid
from taskd.api.request import Request
from taskd.domain.job import Job, JobSpec
from taskd.domain.submission import RESERVED_PREFIX as PREFIX
from taskd.domain.token import Token

HEADER = "Idempotency-Key"
MAX_KEY = 200
_KEY = re.compile(rb"[\x21-\x7e]{1,%d}" % MAX_KEY)
#: Fields that two requests with one key must agree on; times may differ between tries.
SAME = ("task", "queue", "priority", "max_retries", "timeout", "payload")


def key_of(request: Request) -> str | None:
    """Return the request's key, without quotes; None without one. Raises a 422 Problem for an invalid key."""
    given = request.header(b"idempotency-key")
    if given is None:
        return None
    bare = given.strip().removeprefix(b'"').removesuffix(b'"')
    if not _KEY.fullmatch(bare):
        raise invalid(FieldError(HEADER, f"must be 1 to {MAX_KEY} printable ASCII characters without spaces"))
    return bare.decode()


def with_key(spec: JobSpec, key: str | None, caller: Token) -> JobSpec:
    """Return the job with a dedupe_key made of its request's `key`, unless the job has a dedupe_key of its own."""
    if spec.dedupe_key is not None:
        return _scoped(spec, caller)
    return spec if key is None else _keyed(spec, key, caller)


def with_keys(specs: Sequence[JobSpec], key: str | None, body: bytes, caller: Token) -> list[JobSpec]:
    """Return the jobs of a batch with keys made of the request's `key`, the job's index and a fingerprint of the `body`.

    So the key of one batch never matches the jobs of another batch, which would then be lost. (A key has no spaces.)
    """
    if key is None:
        return [with_key(spec, None, caller) for spec in specs]
    prefix = f"{key} {hashlib.sha256(body).hexdigest()[:16]}"
    return [with_key(spec, f"{prefix} {index}", caller) for index, spec in enumerate(specs)]


def _keyed(spec: JobSpec, key: str, caller: Token) -> JobSpec:
    if not caller.id:
        return msgspec.structs.replace(spec, dedupe_key=f"{PREFIX}{key}")
    dedupe_key = f"{PREFIX} @{caller.id} {key}"
    return msgspec.structs.replace(spec, dedupe_key=dedupe_key, former_key=f"{PREFIX}{key}")


def _scoped(spec: JobSpec, caller: Token) -> JobSpec:
    if caller.queues is None:
        return spec
    # A queue's name does not begin with @.
    own_key = f"{PREFIX} {spec.queue} {spec.dedupe_key}"
    return msgspec.structs.replace(spec, own_key=own_key, former_key=spec.dedupe_key)


def reused(spec: JobSpec, first: Job) -> Problem | None:
    """Return a 422 Problem if the key was used for another request: `first` is not the job that `spec` asks for."""
    if spec.dedupe_key is None or not spec.dedupe_key.startswith(PREFIX):
        return None
    if all(_text(getattr(spec, name)) == _text(getattr(first, name)) for name in SAME):
        return None
    return invalid(FieldError(HEADER, f"was used for another request, which made job {first.id}: use a new key"))


def _text(value: object) -> object:
    return bytes(value) if isinstance(value, msgspec.Raw) else value
