"""Traces by OpenTelemetry: one for each job, from its submit over its dispatch and delivery to every attempt.

The trace is carried by a W3C `traceparent` in the job's metadata: a client may submit one, and a task finds its own
attempt's there. That much works without OpenTelemetry; spans are made only where `trace.endpoint` is set and the extra `otel`
is installed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any

from taskd.domain.errors import ConfigurationError
from taskd.runtime.log import logger
from taskd.runtime.waiting import wait_for
from taskd.settings import TraceSettings

#: The name of the trace context, in headers and in metadata.
KEY = "traceparent"
_FORM = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
#: Seconds in which the last spans are exported at the end of a process.
FLUSH_TIMEOUT = 2.0
#: Seconds between log lines about a collector that refuses spans.
QUIET = 60.0
_NOTHING: AbstractContextManager[None] = contextlib.nullcontext()

Attributes = Mapping[str, str | int | float]


class _Tracer:
    """The tracer of this process, if it makes spans."""

    tracer: Any = None


def thread(text: object) -> str | None:
    """Return the text if it is a traceparent, else None, as the standard asks."""
    return text if isinstance(text, str) and _FORM.fullmatch(text) else None


@asynccontextmanager
async def exporting(settings: TraceSettings, role: str, instance: str) -> AsyncIterator[None]:
    """Make spans and export them to `settings.endpoint` while the context lasts. Without an endpoint, do nothing.

    Raises ConfigurationError if the extra is not installed.
    """
    if not settings.endpoint:
        yield
        return
    provider = _provider(settings, role, instance)
    _Tracer.tracer = provider.get_tracer("taskd")
    try:
        yield
    finally:
        _Tracer.tracer = None
        await _farewell(provider)


def making() -> bool:
    """Return True if this process makes spans."""
    return _Tracer.tracer is not None


class Span:
    """A span of a job. `traceparent` is the context for its children."""

    __slots__ = ("_span", "traceparent")

    def __init__(self, span: Any) -> None:
        context = span.get_span_context()
        self._span = span
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"

    def end(self, *, error: str = "", at: datetime | None = None, **attributes: str | int | float) -> None:
        """End the span, at that time or now. `error` is empty if all went well."""
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415  only where the extra is

        for name, value in attributes.items():
            self._span.set_attribute(f"taskd.{name}", value)
        if error:
            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.end(_nanoseconds(at))


def begin(name: str, parent: str | None, attributes: Attributes, *, at: datetime | None = None) -> Span | None:
    """Begin a span of this name below `parent`, at that time or now. Return None where no spans are made."""
    if _Tracer.tracer is None:
        return None
    named = {f"taskd.{key}": value for key, value in attributes.items()}
    return Span(_Tracer.tracer.start_span(name, _context(parent), attributes=named, start_time=_nanoseconds(at)))


def adopted(metadata: Mapping[str, Any]) -> AbstractContextManager[None]:
    """Make the spans of a task children of its attempt's span, if its app uses OpenTelemetry."""
    parent = thread(metadata.get(KEY)) if "opentelemetry.trace" in sys.modules else None
    return _NOTHING if parent is None else _adopted(parent)


@contextmanager
def _adopted(parent: str) -> Iterator[None]:
    from opentelemetry import context  # noqa: PLC0415  only where the app has it

    token = context.attach(_context(parent))
    try:
        yield
    finally:
        context.detach(token)


async def _farewell(provider: Any) -> None:
    """Export the remaining spans, for FLUSH_TIMEOUT seconds, in a thread that the end of the process does not wait for."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def tell() -> None:
        provider.shutdown()
        with contextlib.suppress(RuntimeError):  # the loop is closed, so no task waits any longer
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=tell, daemon=True).start()
    await wait_for(done, FLUSH_TIMEOUT)


class _RateLimitedHandler(logging.Handler):
    """Passes OpenTelemetry's log records to taskd's log, at a bounded rate."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._next = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record, unless another was logged a moment ago."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + QUIET
            logger().warning("traces are not exported", reason=record.getMessage()[:300])


def _provider(settings: TraceSettings, role: str, instance: str) -> Any:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio  # noqa: PLC0415
    except ImportError:
        raise ConfigurationError(
            "section [trace], key 'endpoint': traces need OpenTelemetry: pip install 'taskd[otel]'"
        ) from None
    own = logging.getLogger("opentelemetry")
    own.handlers, own.propagate = [_RateLimitedHandler()], False
    resource = Resource.create({"service.name": f"taskd-{role}", "service.instance.id": instance})
    provider = TracerProvider(
        resource=resource, sampler=ParentBasedTraceIdRatio(settings.sample), shutdown_on_exit=False
    )
    exporter = OTLPSpanExporter(endpoint=f"{settings.endpoint.rstrip('/')}/v1/traces", timeout=FLUSH_TIMEOUT)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _context(parent: str | None) -> Any:
    """Return the context in which a span has this parent; an empty one for None."""
    from opentelemetry.context import Context  # noqa: PLC0415  only where the extra is
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    return TraceContextTextMapPropagator().extract({KEY: parent} if parent else {}, Context())


def _nanoseconds(at: datetime | None) -> int | None:
    return int(at.timestamp() * 1_000_000) * 1000 if at is not None else None
