"""Test that a job has one trace, from its client's span to its task's, with the test as the collector."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests import web
from tests.e2e.fleet import Fleet
from tests.servers import wait_until

TRACE, CLIENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector:
    """Received spans."""

    def __init__(self) -> None:
        self.spans: list[Any] = []

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]


@contextmanager
def collecting() -> Iterator[tuple[Collector, str]]:
    """Run a collector; yield it and its endpoint."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
            for resource in sent.resource_spans:
                for scope in resource.scope_spans:
                    collector.spans += scope.spans
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def about(span: Any) -> dict[str, Any]:
    return {
        attribute.key.removeprefix("taskd."): attribute.value.string_value or attribute.value.int_value
        for attribute in span.attributes
    }


def test_a_job_is_one_trace_through_both_of_its_attempts(fleet: Fleet) -> None:
    with collecting() as (collector, endpoint):
        settings = {"TASKD_TRACE__ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        fleet.more |= settings
        scheduler = fleet.start_scheduler("s")
        fleet.start_worker("w", app="tests.e2e.traced_tasks")
        job = {"task": "flaky", "payload": {"failures": 1}, "retry_backoff": {"initial": 0}}
        headers = {"traceparent": f"00-{TRACE}-{CLIENT}-01"}
        job_id = web.post(f"{scheduler.url}/jobs", json=job, headers=headers).json()["id"]
        fleet.wait_completed([job_id])
        wait_until(lambda: len(collector.named("taskd.attempt")) == 2 and collector.named("taskd.submit"))

        (submit,) = collector.named("taskd.submit")
        assert submit.parent_span_id.hex() == CLIENT
        ways = [*collector.named("taskd.dispatch"), *collector.named("taskd.deliver")]
        attempts = sorted(collector.named("taskd.attempt"), key=lambda span: span.start_time_unix_nano)
        assert len(ways) == 4
        for span in (*ways, *attempts):
            assert (span.trace_id.hex(), span.parent_span_id) == (TRACE, submit.span_id)
            assert span.end_time_unix_nano >= span.start_time_unix_nano
            assert about(span)["job"] == job_id
        assert [(about(span)["attempt"], about(span)["outcome"]) for span in attempts] == [
            (1, "failed"),
            (2, "completed"),
        ]
        assert [span.status.message for span in attempts] == ["RuntimeError: attempt 1 fails", ""]

        # A task receives the span of its own attempt, and can add spans to it.
        for number, task in enumerate(("trace", "trace_in_a_thread", "trace"), start=3):
            traced = web.post(f"{scheduler.url}/jobs", json={"task": task, "payload": {}}, headers=headers).json()["id"]
            fleet.wait_completed([traced])
            handed = web.get(f"{scheduler.url}/jobs/{traced}").json()["result"]
            wait_until(lambda count=number: len(collector.named("taskd.attempt")) == count)  # type: ignore[misc]
            (attempt,) = [span for span in collector.named("taskd.attempt") if about(span)["job"] == traced]
            assert handed == {"metadata": attempt.span_id.hex(), "current": attempt.span_id.hex()}


def test_a_missing_extra_is_one_line(fleet: Fleet) -> None:
    blocked = fleet.folder / "opentelemetry"
    blocked.mkdir()
    (blocked / "__init__.py").write_text("raise ImportError")
    path = os.pathsep.join([str(fleet.folder), os.environ.get("PYTHONPATH", "")])
    environment = {"TASKD_TRACE__ENDPOINT": "http://127.0.0.1:1", "PYTHONPATH": path}
    process = fleet.spawn("scheduler", "--http-addr", "127.0.0.1:0", **environment)
    assert process.popen.wait(30) == 1
    assert "pip install 'taskd[otel]'" in process.output
