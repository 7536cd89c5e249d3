"""The traces of submits: taken from the client, or begun here, and left with the job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import msgspec

from taskd.api.call import Call
from taskd.domain.job import JobSpec
from taskd.runtime import tracing


def submitting(specs: Sequence[JobSpec], call: Call) -> AbstractContextManager[Sequence[JobSpec]]:
    """The jobs, each with the trace that it belongs to: one span for the whole request, or the client's own trace as it is.

    A job whose metadata has a trace already keeps that.
    """
    header = call.header(b"traceparent")
    return nullcontext(specs) if header is None and not tracing.making() else _submitting(specs, header)


@contextmanager
def _submitting(specs: Sequence[JobSpec], header: bytes | None) -> Iterator[list[JobSpec]]:
    parent = tracing.thread(header.decode("latin-1")) if header is not None else None
    single = specs[0] if len(specs) == 1 else None
    about = {"task": single.task, "queue": single.queue} if single is not None else {"jobs": len(specs)}
    span = tracing.begin("taskd.submit", parent or (_own(single) if single is not None else None), about)
    left = span.traceparent if span is not None else parent
    replaces = span is not None and single is not None
    try:
        yield [_with(spec, left) if replaces or _own(spec) is None else spec for spec in specs] if left else list(specs)
    except BaseException as error:
        if span is not None:
            span.end(error=str(error) or type(error).__name__)
        raise
    if span is not None:
        span.end()


def _own(spec: JobSpec) -> str | None:
    return tracing.thread(spec.metadata.get(tracing.KEY))


def _with(spec: JobSpec, traceparent: str) -> JobSpec:
    return msgspec.structs.replace(spec, metadata={**spec.metadata, tracing.KEY: traceparent})
