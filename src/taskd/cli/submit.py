"""`taskd submit`: one job, or a file of them, through the HTTP API."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from taskd.cli import moments, options, output
from taskd.cli.durations import seconds
from taskd.domain.exact import BOM, JsonText
from taskd.runtime.terminal import path

if TYPE_CHECKING:
    from taskd.client import Client

STILL_GOING = 3
INTERRUPTED = 130
FOREVER = "forever"
_SECONDS = re.compile(r"\d+(\.\d+)?")


class SubmitCommand(TyperCommand):
    """A command whose `--wait` may stand alone: the option parser knows no optional values, so one is filled in."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse `args` with every `--wait` that no number follows as `--wait forever`."""
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
    payload: Annotated[
        str | None,
        typer.Argument(
            help="JSON, or a plain string if it is none; @FILE reads a file, - reads stdin.", metavar="PAYLOAD"
        ),
    ] = None,
    task: Annotated[str | None, typer.Option(help="The task to run. Default: default.")] = None,
    queue: Annotated[str | None, typer.Option(help="Default: default.")] = None,
    priority: options.PriorityOption = None,
    dedupe_key: Annotated[str | None, typer.Option(help="A second submit with this key makes no second job.")] = None,
    schedule_at: Annotated[
        str | None, typer.Option(metavar="RFC3339", help="Not before, as in 2026-01-31T12:00:00Z.")
    ] = None,
    delay: Annotated[str | None, typer.Option(metavar="DURATION", help="Not before, from now: 90, 10m, 1h30m.")] = None,
    max_retries: options.RetriesOption = None,
    timeout: Annotated[str | None, typer.Option(metavar="DURATION", help="How long one attempt may run.")] = None,
    metadata: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="May be given many times.")] = None,
    wait: Annotated[
        str | None, typer.Option(metavar="[SECONDS]", help="Wait for the end; exit 0 completed, 1 not, 3 still going.")
    ] = None,
    bulk: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="A file (-: stdin) with one job a line, as POST /jobs takes it. May be repeated."
        ),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="With --bulk: new jobs, also of lines submitted before.")
    ] = False,
    key: Annotated[
        str | None,
        typer.Option("--idempotency-key", metavar="KEY", help="Repeat a submit whose outcome is unknown (exit 4)."),
    ] = None,
    server: options.ServerOption = "http://localhost:8080",
    as_json: options.JsonOption = False,
) -> int:
    """Submit a job.

    Example: taskd submit '{"url": "https://example.org"}' --task fetch --priority 10 --wait 60; taskd submit --bulk jobs.ndjson
    """
    fields: dict[str, Any] = {
        "task": task,
        "queue": queue,
        "priority": priority,
        "dedupe_key": dedupe_key,
        "schedule_at": options.instant(schedule_at, "--schedule-at") if schedule_at is not None else None,
        "delay": seconds(delay) if delay is not None else None,
        "max_retries": max_retries,
        "timeout": seconds(timeout) if timeout is not None else None,
        "metadata": metadata_of(metadata),
    }
    if schedule_at is not None and delay is not None:
        raise typer.BadParameter("give either --schedule-at or --delay, not both")
    given = {name: value for name, value in fields.items() if value is not None}
    if bulk is not None:
        if payload is not None or dedupe_key is not None or wait is not None or key is not None:
            raise typer.BadParameter("--bulk takes the payloads and keys from its file, and cannot wait for many jobs")
        return _deliver_many(server, bulk, given, again=again, as_json=as_json)
    if again:
        raise typer.BadParameter("--again goes with --bulk")
    limit = _wait_seconds(wait)
    if payload is None:
        _note_no_payload(wait)
    job = {"payload": None if payload is None else read_payload(payload), **given}
    return _deliver(server, job, limit, key, as_json=as_json)


def _note_no_payload(wait: str | None) -> None:
    taken = "" if wait in (None, FOREVER) else f" ({wait} is the SECONDS of --wait)"
    output.tell(f"no PAYLOAD was given{taken}: null is sent", err=True)


def _deliver(server: str, job: dict[str, Any], limit: float | None, key: str | None, *, as_json: bool) -> int:
    """Submit, wait if asked to, show; the exit code."""
    with options.connect(server) as client:
        answer = _submitted(client, job, key)
        if limit is None:
            _show(answer, as_json=as_json)
            return 0
        try:
            if not as_json:
                output.tell(_awaits(answer), err=True)
            final = _awaited(client, answer, limit)
        except KeyboardInterrupt:
            output.tell(f"job {answer['id']} goes on: taskd status {answer['id']}", err=True)
            return INTERRUPTED
    _show(final, as_json=as_json)
    return {"completed": 0, "failed": 1, "cancelled": 1}.get(final["status"], STILL_GOING)


def _awaits(job: dict[str, Any]) -> str:
    """Say which job is waited for: an older one with the dedupe key may have ended long ago."""
    if not (job.get("duplicate") and "dedupe_key" in job):
        return f"job {job['id']} submitted, waiting for its end"
    made = moments.moment(job["created_at"])
    return f"job {job['id']} of {made} ({job['status']}) has this dedupe key: no new job"


def _submitted(client: Client, job: dict[str, Any], key: str | None) -> dict[str, Any]:
    try:
        return client.submit(job, key)
    except KeyboardInterrupt:
        output.tell("interrupted before an answer came: the job may have been submitted (taskd list)", err=True)
        raise


def _awaited(client: Client, job: dict[str, Any], limit: float) -> dict[str, Any]:
    """The job at its end, or when the time is over: as it was submitted, if no scheduler says more."""
    try:
        return client.wait(job["id"], None if math.isinf(limit) else limit)
    except TimeoutError as error:
        output.tell(f"job {job['id']}: {error}", err=True)
        return job


def _deliver_many(server: str, name: str, defaults: dict[str, Any], *, again: bool, as_json: bool) -> int:
    from taskd.cli.bulk import Source, submit  # noqa: PLC0415  one job does without

    with options.connect(server) as client:
        return submit(client, Source(name, defaults, again=again), as_json=as_json)


def read_payload(text: str) -> JsonText | str:
    """The payload that an argument stands for: JSON as it was written, or a text.

    Raises BadParameter for a file that cannot be read or is no UTF-8.
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
        if plain.lstrip()[:1] in ("{", "["):  # meant as JSON, surely
            reason = str(error) if isinstance(error, ValueError) else "it is nested too deeply"
            output.tell(f"PAYLOAD is no JSON ({reason}): it is sent as a text", err=True)
        return plain


def _not_text(error: ValueError) -> str:
    return "PAYLOAD: this is not UTF-8 text" if isinstance(error, UnicodeError) else f"PAYLOAD: {error}"


def metadata_of(pairs: list[str] | None) -> dict[str, str] | None:
    """The metadata that --metadata options stand for; None without any. Raises BadParameter."""
    found: dict[str, str] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"--metadata takes KEY=VALUE, not {pair!r}")
        found[key] = value
    return found or None


def _wait_seconds(text: str | None) -> float | None:
    if text is None:
        return None
    return math.inf if text == FOREVER else seconds(text)


def _show(job: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.print_json(job)
        return
    status = job.get("status", "submitted")
    # Without a key of the user's it is the client's own, and the first answer was lost.
    again = job.get("duplicate") and "dedupe_key" in job
    first = " (this dedupe key had been used: no new job was made)" if again else ""
    output.tell(f"job {job['id']} {status}{first}")
    if "error" in job:
        output.tell(f"error: {job['error']}")
    if status == "completed":
        output.tell(f"result: {output.brief(job.get('result'), 10_000)}")
