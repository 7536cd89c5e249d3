"""The body of POST /jobs/batch: a JSON document, or lines of one job each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from taskd.api.decoding import decode
from taskd.api.problems import FieldError, Problem, invalid, too_large
from taskd.api.strictjson import has_more_items
from taskd.api.submission import ENVELOPE, accepted, parse
from taskd.api.time_slice import TimeSlice
from taskd.domain.job import JobSpec
from taskd.domain.submission import Submission
from taskd.settings import HttpSettings

#: The most jobs and bytes that are decoded at once.
GROUP, GROUP_BYTES = 200, 64 * 1024
#: After this many errors the rest of the batch is not checked.
MAX_ERRORS = 20
#: A document with fewer commas is split at once: it does not delay other requests.
FEW = 100_000


class _Batch(msgspec.Struct, forbid_unknown_fields=True):
    jobs: list[msgspec.Raw]


_decoder = msgspec.json.Decoder(_Batch)
_group_decoder = msgspec.json.Decoder(list[Submission])

#: A job as JSON, or decoded already.
Item = msgspec.Raw | bytes | Submission


async def parse_batch(body: bytes, media: bytes, settings: HttpSettings) -> list[JobSpec]:
    """Return the jobs of a batch. Raises a Problem with up to MAX_ERRORS errors; 413 for too many jobs."""
    time_slice = TimeSlice()
    items: Iterable[Item]
    if media == b"application/x-ndjson":
        items = await _lines(body, settings.max_batch_jobs, time_slice)
    else:
        if body.count(b",") > FEW and await has_more_items(body, settings.max_batch_jobs):
            raise _too_many(settings.max_batch_jobs, "more")
        documents = decode(_decoder, body).jobs
        if len(documents) > settings.max_batch_jobs:
            raise _too_many(settings.max_batch_jobs, f"{len(documents)}")
        items = _decoded(documents, settings)
    specs: list[JobSpec] = []
    errors: list[FieldError] = []
    for index, item in enumerate(items):
        await time_slice.pause()
        try:
            specs.append(await _spec(item, settings.max_job_bytes, f"jobs[{index}]."))
        except Problem as problem:
            if not problem.errors or problem.status != 422:
                raise
            errors += problem.errors
            if len(errors) >= MAX_ERRORS:
                break
    if errors:
        raise invalid(*errors)
    return specs


async def _lines(body: bytes, most: int, time_slice: TimeSlice) -> list[bytes]:
    """Return the lines that are not empty. Raises a 413 Problem for more than `most`."""
    lines: list[bytes] = []
    begin = 0
    while begin < len(body):
        end = body.find(b"\n", begin + GROUP_BYTES)
        end = len(body) if end < 0 else end
        lines += [line for line in body[begin:end].split(b"\n") if line.strip()]
        if len(lines) > most:
            raise _too_many(most, "more")
        begin = end + 1
        await time_slice.pause()
    return lines


def _too_many(most: int, count: str) -> Problem:
    return too_large(f"a batch may have {most} jobs, this one has {count}")


def _decoded(documents: Sequence[msgspec.Raw], settings: HttpSettings) -> Iterator[Item]:
    """Decode jobs in groups, which costs half of decoding each. Yield the documents of a group that has an error."""
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


async def _spec(item: Item, max_payload: int, prefix: str) -> JobSpec:
    if isinstance(item, Submission):
        return await accepted(item, max_payload, prefix, nul=False)
    return await parse(item, max_payload, prefix)
