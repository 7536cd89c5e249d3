"""`taskd torture`: a user's own proof that nothing is lost or doubled."""

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


def torture(
    context: typer.Context,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long there are faults.")] = 5.0,
    rate: Annotated[float, typer.Option(min=0.1, help="Jobs a second.")] = 20.0,
    seed: Annotated[int | None, typer.Option(help="Repeats the load and the faults of a run.")] = None,
    given: Annotated[
        bool, typer.Option("--given", help="Not on a cluster of its own: on the servers that the settings name.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --given: do not ask.")] = False,
    history: Annotated[Path, typer.Option(metavar="DIR", help="Where the run is written down.")] = Path(
        "taskd-torture"
    ),
    as_json: options.JsonOption = False,
) -> int:
    """Prove that no job is lost or done twice, whatever dies.

    It kills and freezes schedulers, workers and servers under load, then looks at every job. Ctrl-C ends the faults
    early, and still judges. Exit status 1 if a promise was broken.

    Example: taskd torture --minutes 5
    """
    settings = options.settings(context, beside_dev=False)
    if given:
        _warn(settings)
        _require_consent(asked=not yes)
    from taskd.torture import front  # noqa: PLC0415  only this command needs clusters, drivers and the checker

    chosen = random.SystemRandom().randrange(1, 10**6) if seed is None else seed
    asked = context.find_object(options.Global) or options.Global()
    order = front.RunOptions(
        seconds=60 * minutes,
        rate=rate,
        seed=chosen,
        history=history.absolute(),
        guest=f"torture-{random.SystemRandom().randrange(16**6):06x}" if given else None,
        options=("--config", str(asked.config)) if asked.config else (),
    )
    verdict = front.run(order, settings, told=history, aside=as_json)
    if verdict is None:
        return INTERRUPTED
    if as_json:
        output.print_json(verdict)
    return 0 if verdict["clean"] else 1


def _warn(settings: Settings) -> None:
    lines = (
        "WARNING: this runs on servers that are not its own.",
        f"  PostgreSQL  {without_password(settings.postgres.dsn)}",
        f"  Redis       {without_password(settings.redis.url)}",
        f"  etcd        {settings.etcd.endpoints}",
        "It adds the audit tables, which stay, and cost every job of that cluster a few",
        "rows. It submits jobs to queues of its own; they stay as finished jobs. It",
        "starts schedulers and workers there, and kills and freezes those, again and",
        "again. One of its schedulers may come to lead the whole cluster: when that one",
        "is hit, nothing is dispatched until another takes over, usually some seconds.",
        "The servers and your own processes are left alone.",
    )
    for line in lines:
        output.tell(line, err=True)


def _require_consent(*, asked: bool) -> None:
    """Return if the user agrees. Raises ConfigurationError if not, or if nobody can be asked."""
    if not asked:
        return
    if not sys.stdin.isatty():
        raise ConfigurationError("there is no terminal to ask at: --yes says that you want this on the given servers")
    if not typer.confirm("Go on?", err=True):
        raise ConfigurationError("nothing was done")


def without_password(url: str) -> str:
    """A URL or connection string without what opens it."""
    import re  # noqa: PLC0415  for --given alone

    hidden = re.sub(r"(?<=password=)[^\s&]+", "***", url)
    return re.sub(r"(://[^@/:]*:)[^@/]*(?=@)", r"\1***", hidden)
