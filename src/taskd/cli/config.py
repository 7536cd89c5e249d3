"""`taskd config`: shows and changes the live configuration."""

from __future__ import annotations

import getpass
import socket
import sys
from typing import Annotated, Any

import typer

from taskd.cli import options, output
from taskd.cli.moments import UtcOption
from taskd.domain.exact import JsonText

app = typer.Typer(
    help="Show and change the live configuration.\n\nEvery process applies a change within a second.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

KeyArgument = Annotated[
    str, typer.Argument(help="As in queue.images.paused; `taskd config list` shows all kinds.", metavar="KEY")
]


@app.command("list")
def list_all(
    server: options.ServerOption = "http://localhost:8080",
    as_json: options.JsonOption = False,
    _utc: UtcOption = False,
) -> None:
    """Show the values that are set, and the keys that may be set.

    Example: taskd config list
    """
    with options.connect(server) as client:
        document = client.get("/config")
    if as_json:
        output.print_json(document)
        return
    from taskd.cli import tables  # noqa: PLC0415  loads rich

    output.show(tables.config(document))


@app.command()
def get(
    key: KeyArgument, server: options.ServerOption = "http://localhost:8080", as_json: options.JsonOption = False
) -> int:
    """Show one value. Exit status 1 if it is not set.

    Example: taskd config get queue.images.paused
    """
    with options.connect(server) as client:
        values = client.get("/config")["values"]
    if as_json:
        output.print_json({"key": key, "set": key in values, "value": values.get(key)})
    else:
        output.write_line(
            output.brief(values[key], sys.maxsize)
            if key in values
            else f"{key} is not set: each process's own settings apply"
        )
    return 0 if key in values else 1


@app.command("set")
def set_one(
    key: KeyArgument,
    value: Annotated[str, typer.Argument(help="JSON, or a plain string if it is none.", metavar="VALUE")],
    server: options.ServerOption = "http://localhost:8080",
    as_json: options.JsonOption = False,
) -> None:
    """Set one key for all processes that use it.

    Example: taskd config set queue.images.paused true
    """
    with options.connect(server) as client:
        _show(client.configure(key, _value(value), current_user()), as_json=as_json)


@app.command()
def unset(
    key: KeyArgument, server: options.ServerOption = "http://localhost:8080", as_json: options.JsonOption = False
) -> None:
    """Unset one key: each process's own settings apply again.

    Example: taskd config unset worker.concurrency
    """
    with options.connect(server) as client:
        _show(client.unconfigure(key, current_user()), as_json=as_json)


@app.command()
def history(
    server: options.ServerOption = "http://localhost:8080",
    as_json: options.JsonOption = False,
    _utc: UtcOption = False,
) -> None:
    """Show who changed what and when, newest first.

    Example: taskd config history
    """
    with options.connect(server) as client:
        versions = client.config_history()
    if as_json:
        output.print_json(versions)
        return
    from taskd.cli import tables  # noqa: PLC0415  loads rich

    output.show(tables.versions(versions) if versions else "no key was set yet")


@app.command()
def rollback(
    version: Annotated[int, typer.Argument(min=0, help="The version whose values are set again; 0: no values.")],
    server: options.ServerOption = "http://localhost:8080",
    as_json: options.JsonOption = False,
) -> None:
    """Make a new version with the values of an old one.

    Example: taskd config rollback 3
    """
    with options.connect(server) as client:
        _show(client.roll_back(version, current_user()), as_json=as_json)


def _value(text: str) -> Any:
    try:
        return JsonText(text)
    except (ValueError, RecursionError):
        return text


def current_user() -> str:
    """Return USER@HOST of this terminal, for the history of the live configuration."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):
        name = "unknown"
    return f"{name}@{socket.gethostname()}"


def _show(version: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.print_json(version)
    else:
        output.write_line(f"version {version['version']}: {version['what']}")
