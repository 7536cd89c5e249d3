"""`taskd torture`: checks on the user's machine that no job is lost or done twice under faults."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taskd.cli import options, output
from taskd.domain.errors import ConfigurationError

if TYPE_CHECKING:
    from taskd.settings import Settings

INTERRUPTED = 130


MinutesOption = Annotated[float, typer.Option(min=0.1, help="How long faults are injected.")]
RateOption = Annotated[float, typer.Option(min=0.1, help="Jobs a second.")]
SeedOption = Annotated[int | None, typer.Option(help="Repeats the load and the faults of an earlier run.")]
GivenOption = Annotated[
    bool, typer.Option("--given", help="Use the servers that the settings name instead of a private cluster.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="With --given: do not ask for confirmation.")]
HistoryOption = Annotated[Path, typer.Option(metavar="DIR", help="The folder for the history of the run.")]


def torture(
    context: typer.Context,
    minutes: MinutesOption = 5.0,
    rate: RateOption = 20.0,
    seed: SeedOption = None,
    given: GivenOption = False,
    yes: YesOption = False,
    history: HistoryOption = Path("taskd-torture"),
    as_json: options.JsonOption = False,
) -> int:
    """Prove that no job is lost or done twice under faults.

    It kills and freezes schedulers, workers and servers under load, then checks every job. Ctrl-C ends the faults
    early; the check still runs. Exit status 1 if a promise was broken.

    Example: taskd torture --minutes 5
    """
    settings = options.settings(context, use_dev_cluster=False)
    if given:
        _warn(settings)
        _require_consent(asked=not yes)
    from taskd.torture import front  # noqa: PLC0415  only this command needs clusters, drivers and the checker

    config = (context.find_object(options.Global) or options.Global()).config
    run_options = front.RunOptions(
        seconds=60 * minutes,
        rate=rate,
        seed=random.SystemRandom().randrange(1, 10**6) if seed is None else seed,
        history=history.absolute(),
        name_prefix=f"torture-{random.SystemRandom().randrange(16**6):06x}" if given else None,
        global_options=("--config", str(config)) if config else (),
    )
    verdict = front.run(run_options, settings, folder_name=history, to_stderr=as_json)
    if verdict is None:
        return INTERRUPTED
    if as_json:
        output.print_json(verdict)
    return 0 if verdict["clean"] else 1


def _warn(settings: Settings) -> None:
    lines = (
        "WARNING: this runs on the servers of another cluster.",
        f"  PostgreSQL  {without_password(settings.postgres.dsn)}",
        f"  Redis       {without_password(settings.redis.url)}",
        f"  etcd        {settings.etcd.endpoints}",
        "It adds the audit tables. They stay, and each job of that cluster costs a few",
        "more rows from then on. It submits jobs to queues of its own; they stay as",
        "finished jobs. It starts schedulers and workers there, and kills and freezes",
        "these again and again. One of its schedulers may become the cluster's leader:",
        "when that one is killed, nothing is dispatched until another leads, usually for",
        "some seconds. The servers and your own processes are left alone.",
    )
    for line in lines:
        output.write_line(line, err=True)


def _require_consent(*, asked: bool) -> None:
    """Return if the user agrees. Raises ConfigurationError otherwise, also without a terminal to ask on."""
    if not asked:
        return
    if not sys.stdin.isatty():
        raise ConfigurationError("there is no terminal to ask on: --yes confirms the run on the given servers")
    if not typer.confirm("Go on?", err=True):
        raise ConfigurationError("nothing was done")


def without_password(url: str) -> str:
    """Return a URL or connection string without its password."""
    import re  # noqa: PLC0415  for --given alone

    hidden = re.sub(r"(?<=password=)[^\s&]+", "***", url)
    return re.sub(r"(://[^@/:]*:)[^@/]*(?=@)", r"\1***", hidden)
