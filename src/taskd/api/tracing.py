"""Traces of submits: continued from the client or begun here, and stored with the job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import msgspec

from taskd.api.request import Request
from taskd.domain.job import JobSpec
from taskd.runtime import tracing


def submitting(specs: Sequence[JobSpec], request: Request) -> AbstractContextManager[Sequence[JobSpec]]:
    """Yield the jobs, each with its trace: one span for the whole request, or the client's trace unchanged.

    A job whose metadata has a trace already keeps it.
    """
    header = request.header(b"traceparent")
    return nullcontext(specs) if header is None and not tracing.making() else _submitting(specs, header)


@contextmanager
def _submitting(specs: Sequence[JobSpec], header: bytes | None) -> Iterator[list[JobSpec]]:
    parent = tracing.thread(header.decode("latin-1")) if header is not None else None
    single = specs[0] if len(specs) == 1 else None
    attributes = {"task": single.task, "queue": single.queue} if single is not None else {"jobs": len(specs)}
    span = tracing.begin("taskd.submit", parent or (_own_trace(single) if single is not None else None), attributes)
    traceparent = span.traceparent if span is not None else parent
    replaces = span is not None and single is not None
    try:
        if traceparent:
            yield [_with(spec, traceparent) if replaces or _own_trace(spec) is None else spec for spec in specs]
        else:
            yield list(specs)
    except BaseException as error:
        if span is not None:
            span.end(error=str(error) or type(error).__name__)
        raise
    if span is not None:
        span.end()


def _own_trace(spec: JobSpec) -> str | None:
    return tracing.thread(spec.metadata.get(tracing.KEY))


def _with(spec: JobSpec, traceparent: str) -> JobSpec:
    return msgspec.structs.replace(spec, metadata={**spec.metadata, tracing.KEY: traceparent})
