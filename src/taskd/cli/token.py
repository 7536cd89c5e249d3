"""`taskd token`: makes, lists and revokes the tokens of the HTTP API.

These commands speak to PostgreSQL, as `taskd migrate` does: the right to make tokens is the right to its database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from taskd.cli import options, output
from taskd.cli.config import current_user
from taskd.cli.durations import seconds
from taskd.cli.moments import UtcOption
from taskd.domain.errors import TaskdError
from taskd.domain.scope import Scope

if TYPE_CHECKING:
    from taskd.store.tokens import PostgresTokens

app = typer.Typer(
    help="Make, list and revoke the tokens of the HTTP API. From the first one on, the API requires a token.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

T = TypeVar("T")

#: Seconds that PostgreSQL may take.
DEADLINE = 10.0


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The client that uses it; shown in logs and lists.", metavar="NAME")],
    scope: Annotated[list[Scope], typer.Option(help="A right that it has; may be given several times.")],
    queue: Annotated[list[str] | None, typer.Option(help="Only for this queue; may be given several times.")] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, max=1e6, metavar="N", help="Requests a second. Default: http.rate_limit.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="DURATION", help="It ends after: 12h, 90d. Default: never.")
    ] = None,
    as_json: options.JsonOption = False,
) -> None:
    """Make a token and print it. It is shown only this once.

    Scopes: submit (submit jobs), read (read everything), operate (cancel, retry, pause queues, drain workers, change
    schedules), admin (all of these, and the whole live configuration).

    Example: taskd token create webshop --scope submit --scope read --queue orders
    """
    if not name.strip() or len(name) > 255 or not name.isprintable():
        raise typer.BadParameter("a name has 1 to 255 printable characters")
    from taskd.domain.token import Token, make  # noqa: PLC0415  keeps --help quick

    token_id, text, digest = make()
    token = Token(
        id=token_id,
        name=name,
        digest=digest,
        scopes=frozenset(scope),
        queues=frozenset(queue) if queue else None,
        rate=rate,
    )
    lifetime = seconds(expires) if expires is not None else None
    expires_at = _with(context, lambda tokens: tokens.create(token, who=current_user(), lifetime=lifetime))
    if as_json:
        output.print_json({"id": token_id, "token": text, "expires_at": expires_at.isoformat() if expires_at else None})
        return
    output.write_line(text)
    output.write_line(f"id {token_id}; it is not shown again: keep it as TASKD_TOKEN", err=True)


@app.command("list")
def list_all(context: typer.Context, as_json: options.JsonOption = False, _utc: UtcOption = False) -> None:
    """Show every token, newest first, and whether it holds.

    Those that ended or were revoked are shown, too.

    Example: taskd token list
    """
    tokens = [_view(record, holds) for record, holds in _with(context, lambda tokens: tokens.all())]
    if as_json:
        output.print_json(tokens)
        return
    from taskd.cli import tables  # noqa: PLC0415  loads rich

    output.show(
        tables.tokens(tokens) if tokens else "there are no tokens: the API is open to every client that reaches it"
    )


@app.command()
def revoke(
    context: typer.Context,
    token_id: Annotated[str, typer.Argument(help="As `taskd token list` shows it, or the token itself.", metavar="ID")],
    as_json: options.JsonOption = False,
) -> None:
    """End a token; schedulers refuse it within two seconds.

    Example: taskd token revoke 3f9ac2d471b0
    """
    from taskd.domain.token import split  # noqa: PLC0415

    bare_id = (split(token_id) or (token_id, ""))[0]
    name = _with(context, lambda tokens: tokens.revoke(bare_id, current_user()))
    if name is None:
        raise TaskdError(f"there is no valid token {bare_id}; `taskd token list` shows all")
    if as_json:
        output.print_json({"id": bare_id, "name": name, "revoked": True})
    else:
        output.write_line(f"revoked {bare_id} ({name})")


def _view(record: Any, holds: bool) -> dict[str, Any]:
    import msgspec  # noqa: PLC0415  keeps --help quick

    fields = msgspec.to_builtins(record)
    del fields["digest"]
    return {**fields, "scopes": sorted(fields["scopes"]), "queues": sorted(record.queues or ()) or None, "holds": holds}


def _with(context: typer.Context, use: Callable[[PostgresTokens], Awaitable[T]]) -> T:
    """Call `use` with the tokens in PostgreSQL and return its result."""
    postgres = options.settings(context).postgres
    from taskd.store.lane import Lane  # noqa: PLC0415  loads the PostgreSQL driver
    from taskd.store.tokens import PostgresTokens  # noqa: PLC0415

    async def run() -> T:
        lane = Lane(postgres.dsn, name="taskd:token", deadline=DEADLINE, pooled=postgres.pooled)
        try:
            return await use(PostgresTokens(lane))
        finally:
            await lane.close()

    return asyncio.run(run())
