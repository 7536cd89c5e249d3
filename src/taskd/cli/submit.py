"""`taskd submit`: submits one job, or a file of them, through the HTTP API."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from taskd.cli import moments, options, output
from taskd.cli.durations import optional_seconds, seconds
from taskd.domain.exact import BOM, JsonText
from taskd.runtime.terminal import path

if TYPE_CHECKING:
    from taskd.client import Client

STILL_GOING = 3
INTERRUPTED = 130
FOREVER = "forever"
_SECONDS = re.compile(r"\d+(\.\d+)?")


PayloadArgument = Annotated[
    str | None,
    typer.Argument(help="JSON, else a plain string; @FILE reads a file, - reads stdin.", metavar="PAYLOAD"),
]
DedupeOption = Annotated[str | None, typer.Option(help="A second submit with this key makes no second job.")]
ScheduleAtOption = Annotated[
    str | None, typer.Option(metavar="RFC3339", help="Not before, as in 2026-01-31T12:00:00Z.")
]
DelayOption = Annotated[str | None, typer.Option(metavar="DURATION", help="Not before, from now: 90, 10m, 1h30m.")]
WaitOption = Annotated[
    str | None,
    typer.Option(metavar="[SECONDS]", help="Wait for the end; exit 0 completed, 1 not completed, 3 still running."),
]
BulkOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="A file (-: stdin) with one job a line, as POST /jobs takes it. May be repeated."
    ),
]
AgainOption = Annotated[bool, typer.Option("--again", help="With --bulk: new jobs, also for lines submitted before.")]
KeyOption = Annotated[
    str | None,
    typer.Option("--idempotency-key", metavar="KEY", help="Repeat a submit whose outcome is unknown (exit 4)."),
]


class SubmitCommand(TyperCommand):
    """A command whose `--wait` may stand alone: the option parser has no optional values, so a value is added."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse `args`; a `--wait` without a number after it becomes `--wait forever`."""
        filled: list[str] = []
        for index, argument in enumerate(args):
            if argument == "--":
                filled += args[index:]
                break
            filled.append(argument)
            following = args[index + 1] if index + 1 < len(args) else ""
            if argument == "--wait" and not _SECONDS.fullmatch(following):
                filled.append(FOREVER)
        return super().parse_args(ctx, filled)


def submit(
    payload: PayloadArgument = None,
    task: options.TaskOption = None,
    queue: options.QueueOption = None,
    priority: options.PriorityOption = None,
    dedupe_key: DedupeOption = None,
    schedule_at: ScheduleAtOption = None,
    delay: DelayOption = None,
    max_retries: options.RetriesOption = None,
    timeout: options.TimeoutOption = None,
    metadata: options.MetadataOption = None,
    wait: WaitOption = None,
    bulk: BulkOption = None,
    again: AgainOption = False,
    key: KeyOption = None,
    server: options.ServerOption = "http://localhost:8080",
    as_json: options.JsonOption = False,
) -> int:
    """Submit a job.

    Example: taskd submit '{"url": "https://example.org"}' --task fetch --priority 10 --wait 60; taskd submit --bulk jobs.ndjson
    """
    fields: dict[str, Any] = {"task": task, "queue": queue, "priority": priority, "dedupe_key": dedupe_key}
    fields |= _times(schedule_at, delay)
    fields |= {"max_retries": max_retries, "timeout": optional_seconds(timeout), "metadata": metadata_of(metadata)}
    given = {name: value for name, value in fields.items() if value is not None}
    if bulk is not None:
        if any(value is not None for value in (payload, dedupe_key, wait, key)):
            raise typer.BadParameter("--bulk takes the payloads and keys from its file, and cannot wait for many jobs")
        return _submit_many(server, bulk, given, again=again, as_json=as_json)
    if again:
        raise typer.BadParameter("--again goes with --bulk")
    limit = _wait_seconds(wait)
    if payload is None:
        _warn_of_no_payload(wait)
    job = {"payload": None if payload is None else read_payload(payload), **given}
    return _submit_one(server, job, limit, key, as_json=as_json)


def _times(schedule_at: str | None, delay: str | None) -> dict[str, Any]:
    """Return the fields that say when the job is due. Raises BadParameter."""
    fields = {
        "schedule_at": None if schedule_at is None else options.instant(schedule_at, "--schedule-at"),
        "delay": optional_seconds(delay),
    }
    if schedule_at is not None and delay is not None:
        raise typer.BadParameter("give either --schedule-at or --delay, not both")
    return fields


def _warn_of_no_payload(wait: str | None) -> None:
    hint = "" if wait in (None, FOREVER) else f" ({wait} is the SECONDS of --wait)"
    output.write_line(f"no PAYLOAD was given{hint}: null is sent", err=True)


def _submit_one(server: str, job: dict[str, Any], limit: float | None, key: str | None, *, as_json: bool) -> int:
    """Submit the job, wait if asked to, and show it. Return the exit code."""
    with options.connect(server) as client:
        submitted = _submitted(client, job, key)
        if limit is None:
            _show(submitted, as_json=as_json)
            return 0
        try:
            if not as_json:
                output.write_line(_waiting_line(submitted), err=True)
            final = _awaited(client, submitted, limit)
        except KeyboardInterrupt:
            output.write_line(f"job {submitted['id']} goes on: taskd status {submitted['id']}", err=True)
            return INTERRUPTED
    _show(final, as_json=as_json)
    return {"completed": 0, "failed": 1, "cancelled": 1}.get(final["status"], STILL_GOING)


def _waiting_line(job: dict[str, Any]) -> str:
    """Return the line that names the awaited job: an older one with the dedupe key may have ended long ago."""
    if not (job.get("duplicate") and "dedupe_key" in job):
        return f"job {job['id']} submitted, waiting for its end"
    made = moments.moment(job["created_at"])
    return f"job {job['id']} of {made} ({job['status']}) has this dedupe key: no new job"


def _submitted(client: Client, job: dict[str, Any], key: str | None) -> dict[str, Any]:
    try:
        return client.submit(job, key)
    except KeyboardInterrupt:
        output.write_line("interrupted before the response: the job may have been submitted (taskd list)", err=True)
        raise


def _awaited(client: Client, job: dict[str, Any], limit: float) -> dict[str, Any]:
    """Return the job at its end, or when the time is over; as it was submitted, if no scheduler answers."""
    try:
        return client.wait(job["id"], None if math.isinf(limit) else limit)
    except TimeoutError as error:
        output.write_line(f"job {job['id']}: {error}", err=True)
        return job


def _submit_many(server: str, name: str, defaults: dict[str, Any], *, again: bool, as_json: bool) -> int:
    from taskd.cli.bulk import Source, submit  # noqa: PLC0415  one job does without

    with options.connect(server) as client:
        return submit(client, Source(name, defaults, again=again), as_json=as_json)


def read_payload(text: str) -> JsonText | str:
    """Return the payload that an argument stands for: JSON as it was written, or a text.

    Raises BadParameter for a file that cannot be read or is not UTF-8.
    """
    try:
        if text == "-":
            text = sys.stdin.buffer.read().decode()
        elif text.startswith("@"):
            text = Path(path(text[1:])).read_bytes().decode()
        text.encode()
    except OSError as error:
        raise typer.BadParameter(f"PAYLOAD: {text[1:]} cannot be read: {error.strerror}") from None
    except ValueError as error:  # also of a path with a NUL
        raise typer.BadParameter(_not_text(error)) from None
    try:
        return JsonText(text)
    except (ValueError, RecursionError) as error:
        plain = text.removeprefix(BOM)
        if plain.lstrip()[:1] in ("{", "["):  # most likely meant as JSON
            reason = str(error) if isinstance(error, ValueError) else "it is nested too deeply"
            output.write_line(f"PAYLOAD is not valid JSON ({reason}): it is sent as a text", err=True)
        return plain


def _not_text(error: ValueError) -> str:
    return "PAYLOAD: this is not UTF-8 text" if isinstance(error, UnicodeError) else f"PAYLOAD: {error}"


def metadata_of(pairs: list[str] | None) -> dict[str, str] | None:
    """Return the metadata of the --metadata options; None without any. Raises BadParameter."""
    metadata: dict[str, str] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"--metadata takes KEY=VALUE, not {pair!r}")
        metadata[key] = value
    return metadata or None


def _wait_seconds(text: str | None) -> float | None:
    if text is None:
        return None
    return math.inf if text == FOREVER else seconds(text)


def _show(job: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.print_json(job)
        return
    status = job.get("status", "submitted")
    # Without the user's key, the duplicate is the client's own repetition after a lost response.
    repeated = job.get("duplicate") and "dedupe_key" in job
    note = " (this dedupe key had been used: no new job was made)" if repeated else ""
    output.write_line(f"job {job['id']} {status}{note}")
    if "error" in job:
        output.write_line(f"error: {job['error']}")
    if status == "completed":
        output.write_line(f"result: {output.brief(job.get('result'), 10_000)}")
