"""`taskd schedule`: jobs that come by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taskd.cli import options, output
from taskd.cli.config import who
from taskd.cli.durations import seconds
from taskd.cli.moments import UtcOption, moment
from taskd.cli.submit import metadata_of, read_payload
from taskd.domain.errors import TaskdError
from taskd.domain.schedule import Missed, Overlap

if TYPE_CHECKING:
    from taskd.client import Client

NOT_FOUND, CONFLICT = 404, 409

app = typer.Typer(
    help="Make, look at and change schedules.\n\nThey submit jobs by cron or at an interval.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

NameArgument = Annotated[str, typer.Argument(help="The schedule's name.", metavar="NAME")]


@app.command()
def add(
    name: NameArgument,
    payload: Annotated[
        str | None,
        typer.Argument(help="As for `taskd submit`: JSON, a plain string, @FILE or -.", metavar="PAYLOAD"),
    ] = None,
    cron: Annotated[str | None, typer.Option(metavar="EXPR", help='Five or six fields, as in "*/5 * * * *".')] = None,
    every: Annotated[str | None, typer.Option(metavar="DURATION", help="An interval instead: 45s, 10m, 1d.")] = None,
    tz: Annotated[str | None, typer.Option(metavar="ZONE", help="As in Europe/Berlin. Default: UTC.")] = None,
    task: Annotated[str | None, typer.Option(help="The task to run. Default: default.")] = None,
    queue: Annotated[str | None, typer.Option(help="Default: default.")] = None,
    priority: options.PriorityOption = None,
    max_retries: options.RetriesOption = None,
    timeout: Annotated[str | None, typer.Option(metavar="DURATION", help="How long one attempt may run.")] = None,
    metadata: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="May be given many times.")] = None,
    missed: Annotated[Missed | None, typer.Option(help="What follows missed ticks. Default: once.")] = None,
    catch_up: Annotated[int | None, typer.Option(help="With --missed all: at most so many. Default: 10.")] = None,
    overlap: Annotated[Overlap | None, typer.Option(help="While an earlier job is live. Default: allow.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Change the schedule of this name, if there is one.")
    ] = False,
    server: options.ServerOption = "http://localhost:8080",
    as_json: options.JsonOption = False,
    _utc: UtcOption = False,
) -> None:
    """Make a schedule.

    Example: taskd schedule add nightly '{"month": "last"}' --cron "30 2 * * *" --tz Europe/Berlin --task report --overlap skip
    """
    if catch_up is not None and missed != Missed.ALL:
        raise typer.BadParameter("--catch-up goes with --missed all: give both, or neither")
    job = {
        "payload": None if payload is None else read_payload(payload),
        "task": task,
        "queue": queue,
        "priority": priority,
        "max_retries": max_retries,
        "timeout": seconds(timeout) if timeout is not None else None,
        "metadata": metadata_of(metadata),
    }
    fields = {
        "cron": cron,
        "every": seconds(every) if every is not None else None,
        "tz": tz,
        "missed": missed,
        "catch_up": catch_up,
        "overlap": overlap,
        "job": {"payload": job["payload"], **_given(job)},
    }
    plan = _given(fields)
    with options.connect(server) as client:
        made = client.schedule("PUT", name, body=plan) if replace else _new(client, name, plan)
    _show(made, as_json=as_json)


def _new(client: Client, name: str, plan: Mapping[str, Any]) -> dict[str, Any]:
    """The schedule that was made. Raises TaskdError: also if there is one of this name."""
    from taskd.client import ClientError  # noqa: PLC0415  --help does without

    try:
        return client.schedule("POST", body={"name": name, **plan})
    except ClientError as error:
        if error.status == CONFLICT:
            raise TaskdError(f"there is a schedule {name!r} already: --replace changes it") from None
        raise


@app.command("list")
def list_all(
    server: options.ServerOption = "http://localhost:8080",
    as_json: options.JsonOption = False,
    _utc: UtcOption = False,
) -> None:
    """Show every schedule and when it fires next.

    Example: taskd schedule list
    """
    with options.connect(server) as client:
        found = client.schedules()
    if as_json:
        output.print_json(found)
        return
    from taskd.cli import tables  # noqa: PLC0415  loads rich

    output.show(tables.schedules(found) if found else "there are no schedules")


@app.command()
def show(
    name: NameArgument,
    server: options.ServerOption = "http://localhost:8080",
    as_json: options.JsonOption = False,
    _utc: UtcOption = False,
) -> None:
    """Show one schedule, and what became of its last ticks.

    Example: taskd schedule show nightly
    """
    with options.connect(server) as client:
        _show(client.schedule("GET", name), as_json=as_json)


@app.command("next")
def coming(
    name: NameArgument,
    count: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 5,
    server: options.ServerOption = "http://localhost:8080",
    as_json: options.JsonOption = False,
) -> None:
    """Show when a schedule fires next, in its time zone.

    Example: taskd schedule next nightly --count 10
    """
    with options.connect(server) as client:
        found = client.schedule("GET", name, "next", query={"count": str(count)})
    if as_json:
        output.print_json(found)
        return
    for fire in found["fires"]:
        output.tell(fire)
    if found["paused"]:
        output.tell("it is paused: none of these comes before it is resumed", err=True)


@app.command()
def pause(
    name: NameArgument, server: options.ServerOption = "http://localhost:8080", as_json: options.JsonOption = False
) -> None:
    """Stop a schedule. What it submitted goes on.

    Example: taskd schedule pause nightly
    """
    with options.connect(server) as client:
        found = client.schedule("POST", name, "pause", query={"who": who()})
    _tell(f"{name} is paused by {found['paused_by']}", found, as_json=as_json)


@app.command()
def resume(
    name: NameArgument,
    server: options.ServerOption = "http://localhost:8080",
    as_json: options.JsonOption = False,
    _utc: UtcOption = False,
) -> None:
    """Let a schedule go on from now.

    What it would have done meanwhile is not made up for.

    Example: taskd schedule resume nightly
    """
    with options.connect(server) as client:
        found = client.schedule("POST", name, "resume")
    _tell(f"{name} fires next at {moment(found['next_at'])}", found, as_json=as_json)


@app.command()
def rm(
    name: NameArgument, server: options.ServerOption = "http://localhost:8080", as_json: options.JsonOption = False
) -> None:
    """Remove a schedule. The jobs that it submitted stay.

    Example: taskd schedule rm nightly
    """
    with options.connect(server) as client:
        found = client.remove_schedule(name)
    _tell(f"{name} is removed", found, as_json=as_json)


@app.command()
def apply(
    module: Annotated[
        str, typer.Option("--app", metavar="MODULE[:ATTR]", help="The app whose declarations are to hold.")
    ],
    server: options.ServerOption = "http://localhost:8080",
    as_json: options.JsonOption = False,
) -> None:
    """Make the schedules what an app declares.

    It does so with @app.cron and @app.every; run this with each deployment. Those that the app declared before and
    does not any more are removed. What was made by hand or by another app stays.

    Example: taskd schedule apply --app shop.tasks
    """
    label, declared = _declared(module)
    with options.connect(server) as client:
        before = {one["name"]: one for one in client.schedules()}
        if foreign := sorted(name for name in declared if name in before and before[name].get("app") != label):
            raise TaskdError(
                f"{', '.join(foreign)}: there are schedules of these names that {label} did not declare: remove them, or"
                " give its own another name="
            )
        done: dict[str, list[str]] = {"made": [], "changed": [], "same": [], "removed": []}
        for name, plan in declared.items():
            after = client.schedule("PUT", name, body={**plan, "app": label})
            done[_outcome(before.get(name), after)].append(name)
        for name, one in before.items():
            if one.get("app") == label and name not in declared:
                _remove(client, name)
                done["removed"].append(name)
    if as_json:
        output.print_json({"app": label, **done})
        return
    for outcome, names in done.items():
        for name in names:
            output.tell(f"{outcome} {name}")
    if not any(done.values()):
        output.tell(f"{label} declares no schedules")


def _remove(client: Client, name: str) -> None:
    """See that there is no such schedule. Somebody else may have removed it meanwhile."""
    from taskd.client import ClientError  # noqa: PLC0415  keeps --help quick

    try:
        client.remove_schedule(name)
    except ClientError as error:
        if error.status != NOT_FOUND:
            raise


def _declared(module: str) -> tuple[str, Mapping[str, Mapping[str, Any]]]:
    """The name by which its schedules are known as this app's, and what it declares. Raises TaskdError."""
    from taskd.executor.loading import NotLoadable, load, search_current_folder  # noqa: PLC0415
    from taskd.runtime import forks  # noqa: PLC0415  keeps --help quick
    from taskd.settings import TaskSettings  # noqa: PLC0415

    search_current_folder()
    forks.watch()
    try:
        found = load(module, TaskSettings())
    except NotLoadable as error:
        raise TaskdError(str(error)) from None
    declared: Mapping[str, Mapping[str, Any]] | None = getattr(found, "schedules", None)
    if declared is None:
        raise TaskdError(f"{module} is no taskd.App, so it declares no schedules")
    return module.removesuffix(":app"), declared


def _outcome(before: dict[str, Any] | None, after: dict[str, Any]) -> str:
    if before is None:
        return "made"
    return "same" if before["changed_at"] == after["changed_at"] else "changed"


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _show(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.print_json(found)
        return
    from taskd.cli import tables  # noqa: PLC0415  loads rich

    output.show(tables.schedule(found))


def _tell(done: str, found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.print_json(found)
    else:
        output.tell(done)
