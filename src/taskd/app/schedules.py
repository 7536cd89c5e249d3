"""What an App declares about when its tasks run; `taskd schedule apply` brings it to the schedulers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal, TypedDict

from taskd.app.task import Task
from taskd.domain.job import MAX_NAME
from taskd.domain.schedule import MAX_CATCH_UP, Missed, Overlap
from taskd.domain.ticks import LEAST_EVERY, MOST_EVERY, check_cron, zone

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:\-]*")


class Policies(TypedDict, total=False):
    """What becomes of missed ticks (of `all`, the latest `catch_up`), and of a tick while an earlier job is live."""

    missed: Literal["skip", "once", "all"]
    catch_up: int
    overlap: Literal["allow", "skip", "queue"]


def by_cron(expression: str, tz: str) -> dict[str, Any]:
    """The times of a cron schedule. Raises ValueError."""
    wrong = tz
    try:
        where, wrong = zone(tz), expression
        check_cron(expression, where)
    except ValueError as error:
        raise ValueError(f"{wrong!r} {error}") from None
    return {"cron": expression, "tz": tz}


def by_interval(seconds: float) -> dict[str, Any]:
    """The times of an interval. Raises ValueError."""
    if type(seconds) not in (int, float) or not LEAST_EVERY <= seconds <= MOST_EVERY:
        raise ValueError(f"an interval is from {LEAST_EVERY:g} to {MOST_EVERY:g} seconds, not {seconds!r}")
    return {"every": seconds}


class Declarations:
    """The schedules of one App, by name, each as PUT /schedules/{name} takes it."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, Any]] = {}

    @property
    def all(self) -> Mapping[str, Mapping[str, Any]]:
        """Every one."""
        return self._found

    def add(
        self,
        task: Task[Any, Any],
        times: Mapping[str, Any],
        name: str | None,
        arguments: Mapping[str, Any] | None,
        policies: Policies,
    ) -> None:
        """Declare one. Raises TypeError for arguments that the task does not take, ValueError for a name that cannot be."""
        if not isinstance(task, Task):
            raise TypeError(f"{task!r} is no task: write @app.task below the schedule")
        name = name if name is not None else task.name
        if len(name) > MAX_NAME or not _NAME.fullmatch(name):
            raise ValueError(
                f"a schedule's name has letters, digits or any of _ . : -, which {name!r} has not: give it a name="
            )
        if name in self._found:
            raise ValueError(f"there is a schedule named {name!r} already: give this one another name=")
        _check(name, policies)
        job = json.loads(task.template(**(arguments or {})))
        self._found[name] = {**times, **policies, "job": job}


def _check(name: str, policies: Policies) -> None:
    """Raise ValueError for a policy that there is not."""
    for policy, found, known in (
        ("missed", policies.get("missed"), Missed),
        ("overlap", policies.get("overlap"), Overlap),
    ):
        choices = [str(choice) for choice in known]
        if found is not None and found not in choices:
            raise ValueError(f"schedule {name!r}: {policy} is one of {', '.join(choices)}, not {found!r}")
    catch_up = policies.get("catch_up")
    if catch_up is not None and (type(catch_up) is not int or not 1 <= catch_up <= MAX_CATCH_UP):
        raise ValueError(f"schedule {name!r}: catch_up is a whole number from 1 to {MAX_CATCH_UP}, not {catch_up!r}")
    if catch_up is not None and policies.get("missed") != "all":
        raise ValueError(f"schedule {name!r}: catch_up goes with missed='all': give both, or neither")
