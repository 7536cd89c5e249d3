"""Options that several commands share."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from taskd.domain import exact
from taskd.domain.job import MAX_ID, MAX_PRIORITY, MAX_RETRIES
from taskd.runtime.terminal import path

if TYPE_CHECKING:
    from taskd.client import Client, ClientError
    from taskd.settings import Settings


def _server(context: typer.Context, value: str) -> str:
    """Return the schedulers to ask: the given ones, else the configured ones, else those of a dev cluster in this folder."""
    from taskd.cli import server_defaults  # noqa: PLC0415  keeps --help quick

    if context.resilient_parsing:
        return value
    source = context.get_parameter_source("server")
    config = (context.find_object(Global) or Global()).config
    return server_defaults.server(value, config, chosen=source is not None and source.name != "DEFAULT")


ServerOption = Annotated[
    str,
    typer.Option(
        "--server",
        envvar="TASKD_SERVER",
        metavar="URL[,URL…]",
        help="The schedulers to ask, tried in turn.",
        callback=_server,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


PriorityOption = Annotated[
    int | None, typer.Option(min=0, max=MAX_PRIORITY, metavar="N", help="0 to 100, higher first. Default: 0.")
]
RetriesOption = Annotated[
    int | None, typer.Option(min=0, max=MAX_RETRIES, metavar="N", help="0 to 100 retries after a failure. Default: 3.")
]


TaskOption = Annotated[str | None, typer.Option(help="The task to run. Default: default.")]
QueueOption = Annotated[str | None, typer.Option(help="Default: default.")]
TimeoutOption = Annotated[str | None, typer.Option(metavar="DURATION", help="How long one attempt may run.")]
MetadataOption = Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="May be given many times.")]

#: The description of an instant in errors.
INSTANT = "an RFC 3339 time with an offset, as in 2026-01-31T12:00:00Z"


class Global(NamedTuple):
    """The options before the subcommand."""

    config: Path | None = None
    log_level: str | None = None
    log_format: str | None = None


def job_id(text: str) -> str:
    """Return `text` if it can be a job's id. Raises BadParameter otherwise."""
    if not (text.isascii() and text.isdecimal() and 0 < int(text[:20]) <= MAX_ID):
        raise typer.BadParameter(f"ID takes a job's id, a positive whole number, not {text!r}")
    return text


def instant(text: str, option: str) -> str:
    """Return `text` if it is an instant. Raises BadParameter otherwise."""
    try:
        known = datetime.fromisoformat(text.upper()).tzinfo is not None
    except ValueError:
        known = False
    if not known:
        raise typer.BadParameter(f"{option} takes {INSTANT}, not {text!r}")
    return text


def settings(
    context: typer.Context,
    flags: dict[tuple[str, str], object] | None = None,
    *,
    use_dev_cluster: bool = True,
    related: bool = True,
) -> Settings:
    """Return the settings with this command's `flags` on top. Raises ConfigurationError; `related`: as for `load`.

    With `use_dev_cluster`, and unless a server is configured, the servers are those of a dev cluster in this folder.
    """
    from taskd.cli import server_defaults  # noqa: PLC0415  as below
    from taskd.runtime import secrets  # noqa: PLC0415  client commands do without
    from taskd.settings import load  # noqa: PLC0415

    given = context.find_object(Global) or Global()
    logs: dict[tuple[str, str], object] = {("log", "level"): given.log_level, ("log", "format"): given.log_format}
    merged = {**logs, **(flags or {})}
    config = given.config and Path(path(str(given.config)))
    loaded = load(file=config, flags=merged, related=related)
    if use_dev_cluster and (servers := server_defaults.servers(config, loaded.client.server)):
        loaded = load(file=config, flags={**servers, **merged}, related=related)
    secrets.learn(loaded)
    return loaded


def refusal(job_id: str, error: ClientError) -> dict[str, Any]:
    """Return the result of one of several jobs that was left unchanged. Raises `error` itself if it concerns all jobs."""
    if error.status not in (404, 409):
        raise error
    known = {"status": error.problem["job_status"]} if "job_status" in error.problem else {}
    shown: int | str = int(job_id) if job_id.isascii() and job_id.isdecimal() and len(job_id) < 20 else job_id
    return {"id": shown, **known, "error": str(error)}


def connect(server: str) -> Client:
    """Return a client for `server` with the configured token and authorities ([client], TASKD_TOKEN, TASKD_CA_FILE).

    Raises BadParameter for an invalid address, and ClientError for an invalid token.
    """
    from taskd.cli import server_defaults  # noqa: PLC0415  keeps --help and --version quick
    from taskd.client import Client, ClientError  # noqa: PLC0415  as above
    from taskd.client.servers import ServerList  # noqa: PLC0415

    try:
        ServerList(server)
    except ClientError as error:
        raise typer.BadParameter(str(error)) from None
    token, ca_file = server_defaults.credentials()
    return Client(server, token=token, ca_file=ca_file, loads=exact.loads)
