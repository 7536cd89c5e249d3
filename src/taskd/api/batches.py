"""The body of POST /jobs/batch: a JSON document, or one job a line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from taskd.api.decoding import decode
from taskd.api.problems import FieldError, Problem, invalid, too_large
from taskd.api.strictjson import has_more_items
from taskd.api.submission import ENVELOPE, accepted, parse
from taskd.api.turns import Turns
from taskd.domain.job import JobSpec
from taskd.domain.submission import Submission
from taskd.settings import HttpSettings

#: Jobs and bytes that are decoded at once.
GROUP, GROUP_BYTES = 200, 64 * 1024
#: After so many bad jobs the rest of the batch is not looked at.
MAX_ERRORS = 20
#: With fewer commas, a document has too few items to hold other requests up while they are told apart.
FEW = 100_000


class _Batch(msgspec.Struct, forbid_unknown_fields=True):
    jobs: list[msgspec.Raw]


_decoder = msgspec.json.Decoder(_Batch)
_group_decoder = msgspec.json.Decoder(list[Submission])

#: A job as its document, or decoded already.
Given = msgspec.Raw | bytes | Submission


async def parse_batch(body: bytes, media: bytes, settings: HttpSettings) -> list[JobSpec]:
    """The jobs of a batch. Raises a Problem that names up to MAX_ERRORS bad ones; 413 for too many jobs."""
    turns = Turns()
    jobs: Iterable[Given]
    if media == b"application/x-ndjson":
        jobs = await _lines(body, settings.max_batch_jobs, turns)
    else:
        if body.count(b",") > FEW and await has_more_items(body, settings.max_batch_jobs):
            raise _too_many(settings.max_batch_jobs, "more")
        documents = decode(_decoder, body).jobs
        if len(documents) > settings.max_batch_jobs:
            raise _too_many(settings.max_batch_jobs, f"{len(documents)}")
        jobs = _decoded(documents, settings)
    specs: list[JobSpec] = []
    errors: list[FieldError] = []
    for index, given in enumerate(jobs):
        await turns.turn()
        try:
            specs.append(await _spec(given, settings.max_job_bytes, f"jobs[{index}]."))
        except Problem as problem:
            if not problem.errors or problem.status != 422:
                raise
            errors += problem.errors
            if len(errors) >= MAX_ERRORS:
                break
    if errors:
        raise invalid(*errors)
    return specs


async def _lines(body: bytes, most: int, turns: Turns) -> list[bytes]:
    """The lines that are not empty. Raises a 413 Problem for more than `most`."""
    found: list[bytes] = []
    begin = 0
    while begin < len(body):
        end = body.find(b"\n", begin + GROUP_BYTES)
        end = len(body) if end < 0 else end
        found += [line for line in body[begin:end].split(b"\n") if line.strip()]
        if len(found) > most:
            raise _too_many(most, "more")
        begin = end + 1
        await turns.turn()
    return found


def _too_many(most: int, count: str) -> Problem:
    return too_large(f"a batch may have {most} jobs, this one has {count}")


def _decoded(documents: Sequence[msgspec.Raw], settings: HttpSettings) -> Iterator[Given]:
    """The jobs, a group decoded at once, which costs half of one after another; of a group with a fault, the documents."""
    most = settings.max_job_bytes + ENVELOPE
    for group in _groups(documents):
        text = b"[%b]" % b",".join(group)
        faulty = rb"\u0000" in text or any(len(bytes(document)) > most for document in group)
        try:
            yield from group if faulty else _group_decoder.decode(text)
        except (msgspec.MsgspecError, RecursionError):
            yield from group


def _groups(documents: Sequence[msgspec.Raw]) -> Iterator[Sequence[msgspec.Raw]]:
    begin = size = 0
    for end, document in enumerate(documents):
        size += len(bytes(document))
        if end + 1 - begin >= GROUP or size >= GROUP_BYTES:
            yield documents[begin : end + 1]
            begin, size = end + 1, 0
    if begin < len(documents):
        yield documents[begin:]


async def _spec(given: Given, max_payload: int, prefix: str) -> JobSpec:
    if isinstance(given, Submission):
        return await accepted(given, max_payload, prefix, nul=False)
    return await parse(given, max_payload, prefix)
