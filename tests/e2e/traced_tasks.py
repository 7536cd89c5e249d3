"""An app that uses OpenTelemetry."""

from __future__ import annotations

from opentelemetry.trace import get_current_span

from taskd import Context
from tests.e2e.tasks import app


@app.task
async def trace(ctx: Context) -> dict[str, str]:
    """Return the id of this attempt's span, from its metadata and from OpenTelemetry."""
    return {"metadata": str(ctx.job.metadata["traceparent"]).split("-")[2], "current": _current()}


@app.task
def trace_in_a_thread(ctx: Context) -> dict[str, str]:
    """Return the same from a plain function."""
    return {"metadata": str(ctx.job.metadata["traceparent"]).split("-")[2], "current": _current()}


def _current() -> str:
    return f"{get_current_span().get_span_context().span_id:016x}"
