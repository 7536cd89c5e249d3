"""`taskd migrate`: brings the database's schema up to date."""

from __future__ import annotations

from typing import Annotated

import typer

from taskd.cli import options, output
from taskd.domain.errors import ConfigurationError


def migrate(
    context: typer.Context,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 if something is pending.")] = False,
    audit: Annotated[
        bool,
        typer.Option("--audit", help="Also add the audit trail: tables that record every transition of every job."),
    ] = False,
    as_json: options.JsonOption = False,
) -> int:
    """Apply the missing migrations. Several may run at the same time.

    Example: POSTGRES_DSN=postgresql://localhost/taskd taskd migrate
    """
    postgres = options.settings(context).postgres
    dsn = postgres.dsn
    from taskd.store import migrations  # noqa: PLC0415  loads the PostgreSQL driver

    if postgres.pooled and not check:
        raise ConfigurationError(migrations.POOLED)
    if check and audit:
        raise typer.BadParameter("--check changes nothing and --audit does: choose one")
    if check:
        names = migrations.pending(dsn, pooled=postgres.pooled)
        _show({"pending": names}, names, "pending", "the schema is up to date", as_json=as_json)
        return 1 if names else 0
    names = migrations.migrate(dsn)
    if audit:
        migrations.apply_audit(dsn)
        names.append("audit")
    _show({"applied": names}, names, "applied", "the schema was up to date already", as_json=as_json)
    return 0


def _show(document: dict[str, list[str]], names: list[str], word: str, none: str, *, as_json: bool) -> None:
    if as_json:
        output.print_json(document)
        return
    for name in names:
        output.write_line(f"{word} {name}")
    if not names:
        output.write_line(none)
