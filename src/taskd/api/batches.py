"""The body of POST /jobs/batch: a JSON document, or one job a line."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from taskd.api.decoding import decode
from taskd.api.problems import FieldError, Problem, invalid, too_large
from taskd.api.submission import accepted, parse
from taskd.domain.job import JobSpec
from taskd.domain.submission import Submission
from taskd.settings import Http

#: Jobs parsed before other requests get a turn.
TURN = 200
#: After so many bad jobs the rest of the batch is not looked at.
MAX_ERRORS = 20


class _Batch(msgspec.Struct, forbid_unknown_fields=True):
    jobs: list[msgspec.Raw]


class _GoodBatch(msgspec.Struct, forbid_unknown_fields=True):
    jobs: list[Submission]


_decoder = msgspec.json.Decoder(_Batch)
_good_decoder = msgspec.json.Decoder(_GoodBatch)

#: A job as its document, or decoded already.
Given = msgspec.Raw | bytes | Submission


async def parse_batch(body: bytes, media: bytes, settings: Http) -> list[JobSpec]:
    """The jobs of a batch. Raises a Problem that names up to MAX_ERRORS bad ones; 413 for too many jobs."""
    documents = _documents(body, media)
    if len(documents) > settings.max_batch_jobs:
        raise too_large(f"a batch may have {settings.max_batch_jobs} jobs, this one has {len(documents)}")
    specs: list[JobSpec] = []
    errors: list[FieldError] = []
    for index, document in enumerate(documents):
        if index % TURN == TURN - 1:
            await asyncio.sleep(0)
        try:
            specs.append(_spec(document, settings.max_job_bytes, f"jobs[{index}]."))
        except Problem as problem:
            if not problem.errors or problem.status != 422:
                raise
            errors += problem.errors
            if len(errors) >= MAX_ERRORS:
                break
    if errors:
        raise invalid(*errors)
    return specs


def _documents(body: bytes, media: bytes) -> Sequence[Given]:
    if media == b"application/x-ndjson":
        return _lines(body)
    return _good(body) or _elements(body)


def _spec(given: Given, max_payload: int, prefix: str) -> JobSpec:
    if isinstance(given, Submission):
        return accepted(given, max_payload, prefix, nul=False)
    return parse(given, max_payload, prefix)


def _good(body: bytes) -> Sequence[Submission]:
    """All jobs at once, which costs half of one after another; none if there is anything to say about one of them."""
    if rb"\u0000" in body:
        return []
    try:
        return _good_decoder.decode(body).jobs
    except (msgspec.MsgspecError, RecursionError):
        return []


def _lines(body: bytes) -> Sequence[bytes]:
    return [line for line in body.split(b"\n") if line.strip()]


def _elements(body: bytes) -> Sequence[msgspec.Raw]:
    return decode(_decoder, body).jobs
