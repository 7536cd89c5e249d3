"""`taskd scheduler`: runs one scheduler in the foreground."""

from __future__ import annotations

from typing import Annotated

import typer

from taskd.cli import options


def scheduler(
    context: typer.Context,
    instance_id: Annotated[str | None, typer.Option(help="Its name in the cluster. Default: host-pid.")] = None,
    http_addr: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where its HTTP API listens. Default: :8080.")
    ] = None,
    migrate: Annotated[bool, typer.Option("--migrate", help="Bring the database's schema up to date first.")] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen on a network although there are no API tokens.")
    ] = False,
) -> int:
    """Run a scheduler: the HTTP API, and dispatching while it leads.

    Example: taskd scheduler --instance-id scheduler-1 --http-addr localhost:8080
    """
    flags: dict[tuple[str, str], object] = {
        ("scheduler", "instance_id"): instance_id,
        ("http", "addr"): http_addr,
        ("http", "insecure"): insecure or None,
    }
    settings = options.settings(context, flags)
    from taskd.compose.scheduler import run_scheduler  # noqa: PLC0415  the daemon's parts load only here

    return run_scheduler(settings, migrate=migrate)
