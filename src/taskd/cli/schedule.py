"""`taskd schedule`: makes, shows and changes schedules, which submit jobs at set times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taskd.cli import options, output
from taskd.cli.config import current_user
from taskd.cli.durations import optional_seconds
from taskd.cli.moments import UtcOption, moment
from taskd.cli.submit import metadata_of, read_payload
from taskd.domain.errors import TaskdError
from taskd.domain.schedule import Missed, Overlap

if TYPE_CHECKING:
    from taskd.client import Client

NOT_FOUND, CONFLICT = 404, 409

app = typer.Typer(
    help="Make, show and change schedules.\n\nThey submit jobs by cron or at an interval.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

NameArgument = Annotated[str, typer.Argument(help="The schedule's name.", metavar="NAME")]
PayloadArgument = Annotated[
    str | None, typer.Argument(help="As for `taskd submit`: JSON, a plain string, @FILE or -.", metavar="PAYLOAD")
]
CronOption = Annotated[str | None, typer.Option(metavar="EXPR", help='Five or six fields, as in "*/5 * * * *".')]
EveryOption = Annotated[str | None, typer.Option(metavar="DURATION", help="An interval instead: 45s, 10m, 1d.")]
ZoneOption = Annotated[str | None, typer.Option(metavar="ZONE", help="As in Europe/Berlin. Default: UTC.")]
MissedOption = Annotated[Missed | None, typer.Option(help="The policy for missed ticks. Default: once.")]
CatchUpOption = Annotated[int | None, typer.Option(help="With --missed all: at most so many. Default: 10.")]
OverlapOption = Annotated[Overlap | None, typer.Option(help="The policy while an earlier job is live. Default: allow.")]
ReplaceOption = Annotated[bool, typer.Option("--replace", help="Change the schedule of this name, if there is one.")]


@app.command()
def add(
    name: NameArgument,
    payload: PayloadArgument = None,
    cron: CronOption = None,
    every: EveryOption = None,
    tz: ZoneOption = None,
    task: options.TaskOption = None,
    queue: options.QueueOption = None,
    priority: options.PriorityOption = None,
    max_retries: options.RetriesOption = None,
    timeout: options.TimeoutOption = None,
    metadata: options.MetadataOption = None,
    missed: MissedOption = None,
    catch_up: CatchUpOption = None,
    overlap: OverlapOption = None,
    replace: ReplaceOption = False,
    server: options.ServerOption = "http://localhost:8080",
    as_json: options.JsonOption = False,
    _utc: UtcOption = False,
) -> None:
    """Make a schedule.

    Example: taskd schedule add nightly '{"month": "last"}' --cron "30 2 * * *" --tz Europe/Berlin --task report --overlap skip
    """
    if catch_up is not None and missed != Missed.ALL:
        raise typer.BadParameter("--catch-up goes with --missed all: give both, or neither")
    job: dict[str, Any] = {"task": task, "queue": queue, "priority": priority, "max_retries": max_retries}
    job |= {"timeout": optional_seconds(timeout), "metadata": metadata_of(metadata)}
    rule = {"cron": cron, "every": optional_seconds(every), "tz": tz}
    plan = _given({**rule, "missed": missed, "catch_up": catch_up, "overlap": overlap})
    plan["job"] = {"payload": None if payload is None else read_payload(payload), **_given(job)}
    with options.connect(server) as client:
        made = client.schedule("PUT", name, body=plan) if replace else _new(client, name, plan)
    _show(made, as_json=as_json)


def _new(client: Client, name: str, plan: Mapping[str, Any]) -> dict[str, Any]:
    """Make the schedule and return it. Raises TaskdError, also if there is one of this name."""
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
    """Show every schedule and its next tick.

    Example: taskd schedule list
    """
    with options.connect(server) as client:
        schedules = client.schedules()
    if as_json:
        output.print_json(schedules)
        return
    from taskd.cli import tables  # noqa: PLC0415  loads rich

    output.show(tables.schedules(schedules) if schedules else "there are no schedules")


@app.command()
def show(
    name: NameArgument,
    server: options.ServerOption = "http://localhost:8080",
    as_json: options.JsonOption = False,
    _utc: UtcOption = False,
) -> None:
    """Show one schedule, and the results of its last ticks.

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
    """Show the next ticks of a schedule, in its time zone.

    Example: taskd schedule next nightly --count 10
    """
    with options.connect(server) as client:
        document = client.schedule("GET", name, "next", query={"count": str(count)})
    if as_json:
        output.print_json(document)
        return
    for fire in document["fires"]:
        output.write_line(fire)
    if document["paused"]:
        output.write_line("the schedule is paused: it does not fire before it is resumed", err=True)


@app.command()
def pause(
    name: NameArgument, server: options.ServerOption = "http://localhost:8080", as_json: options.JsonOption = False
) -> None:
    """Pause a schedule. Jobs that it submitted go on.

    Example: taskd schedule pause nightly
    """
    with options.connect(server) as client:
        schedule = client.schedule("POST", name, "pause", query={"who": current_user()})
    _print_result(f"{name} is paused by {schedule['paused_by']}", schedule, as_json=as_json)


@app.command()
def resume(
    name: NameArgument,
    server: options.ServerOption = "http://localhost:8080",
    as_json: options.JsonOption = False,
    _utc: UtcOption = False,
) -> None:
    """Resume a schedule from now on.

    Ticks during the pause are not made up for.

    Example: taskd schedule resume nightly
    """
    with options.connect(server) as client:
        schedule = client.schedule("POST", name, "resume")
    _print_result(f"{name} fires next at {moment(schedule['next_at'])}", schedule, as_json=as_json)


@app.command()
def rm(
    name: NameArgument, server: options.ServerOption = "http://localhost:8080", as_json: options.JsonOption = False
) -> None:
    """Remove a schedule. The jobs that it submitted stay.

    Example: taskd schedule rm nightly
    """
    with options.connect(server) as client:
        removed = client.remove_schedule(name)
    _print_result(f"{name} is removed", removed, as_json=as_json)


@app.command()
def apply(
    module: Annotated[str, typer.Option("--app", metavar="MODULE[:ATTR]", help="The app that declares the schedules.")],
    server: options.ServerOption = "http://localhost:8080",
    as_json: options.JsonOption = False,
) -> None:
    """Apply the schedules that an app declares.

    It declares them with @app.cron and @app.every. Run this with each deployment. Schedules that the app declared
    before and no longer declares are removed. Schedules that were made by hand or by another app stay.

    Example: taskd schedule apply --app shop.tasks
    """
    label, declared = _declared(module)
    with options.connect(server) as client:
        results = _apply(client, label, declared)
    if as_json:
        output.print_json({"app": label, **results})
        return
    for outcome, names in results.items():
        for name in names:
            output.write_line(f"{outcome} {name}")
    if not any(results.values()):
        output.write_line(f"{label} declares no schedules")


def _apply(client: Client, label: str, declared: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Make, change and remove the app's schedules; return their names by outcome. Raises TaskdError."""
    before = {schedule["name"]: schedule for schedule in client.schedules()}
    if foreign := sorted(name for name in declared if name in before and before[name].get("app") != label):
        raise TaskdError(
            f"{', '.join(foreign)}: there are schedules of these names that {label} did not declare: remove them, or"
            " give its own another name="
        )
    results: dict[str, list[str]] = {"made": [], "changed": [], "same": [], "removed": []}
    for name, plan in declared.items():
        after = client.schedule("PUT", name, body={**plan, "app": label})
        results[_outcome(before.get(name), after)].append(name)
    for name, schedule in before.items():
        if schedule.get("app") == label and name not in declared:
            _remove(client, name)
            results["removed"].append(name)
    return results


def _remove(client: Client, name: str) -> None:
    """Remove a schedule, unless another client has removed it meanwhile."""
    from taskd.client import ClientError  # noqa: PLC0415  keeps --help quick

    try:
        client.remove_schedule(name)
    except ClientError as error:
        if error.status != NOT_FOUND:
            raise


def _declared(module: str) -> tuple[str, Mapping[str, Mapping[str, Any]]]:
    """Return the name that marks the app's schedules, and the schedules that it declares. Raises TaskdError."""
    from taskd.executor.loading import NotLoadable, load, search_current_folder  # noqa: PLC0415
    from taskd.runtime import forks  # noqa: PLC0415  keeps --help quick
    from taskd.settings import TaskSettings  # noqa: PLC0415

    search_current_folder()
    forks.watch()
    try:
        loaded = load(module, TaskSettings())
    except NotLoadable as error:
        raise TaskdError(str(error)) from None
    declared: Mapping[str, Mapping[str, Any]] | None = getattr(loaded, "schedules", None)
    if declared is None:
        raise TaskdError(f"{module} is not a taskd.App, so it declares no schedules")
    return module.removesuffix(":app"), declared


def _outcome(before: dict[str, Any] | None, after: dict[str, Any]) -> str:
    if before is None:
        return "made"
    return "same" if before["changed_at"] == after["changed_at"] else "changed"


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _show(schedule: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.print_json(schedule)
        return
    from taskd.cli import tables  # noqa: PLC0415  loads rich

    output.show(tables.schedule(schedule))


def _print_result(text: str, document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.print_json(document)
    else:
        output.write_line(text)
