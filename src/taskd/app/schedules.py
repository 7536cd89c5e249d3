"""Schedules that an App declares for its tasks; `taskd schedule apply` submits them to the schedulers."""

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
    """Rules for missed ticks (of `all`, the latest `catch_up`), and for a tick while an earlier job is live."""

    missed: Literal["skip", "once", "all"]
    catch_up: int
    overlap: Literal["allow", "skip", "queue"]


def by_cron(expression: str, tz: str) -> dict[str, Any]:
    """Return the times of a cron schedule. Raises ValueError for an invalid expression or time zone."""
    checked = tz
    try:
        where, checked = zone(tz), expression
        check_cron(expression, where)
    except ValueError as error:
        raise ValueError(f"{checked!r} {error}") from None
    return {"cron": expression, "tz": tz}


def by_interval(seconds: float) -> dict[str, Any]:
    """Return the times of an interval. Raises ValueError for one that is too short or too long."""
    if type(seconds) not in (int, float) or not LEAST_EVERY <= seconds <= MOST_EVERY:
        raise ValueError(f"an interval is from {LEAST_EVERY:g} to {MOST_EVERY:g} seconds, not {seconds!r}")
    return {"every": seconds}


class Declarations:
    """The schedules of one App, by name, each as PUT /schedules/{name} takes it."""

    def __init__(self) -> None:
        self._schedules: dict[str, dict[str, Any]] = {}

    @property
    def all(self) -> Mapping[str, Mapping[str, Any]]:
        """All declared schedules."""
        return self._schedules

    def add(
        self,
        task: Task[..., Any],
        times: Mapping[str, Any],
        name: str | None,
        arguments: Mapping[str, Any] | None,
        policies: Policies,
    ) -> None:
        """Declare a schedule.

        Raises TypeError for arguments that the task does not take, ValueError for an invalid name or policy.
        """
        if not isinstance(task, Task):
            raise TypeError(f"{task!r} is no task: write @app.task below the schedule")
        name = name if name is not None else task.name
        if len(name) > MAX_NAME or not _NAME.fullmatch(name):
            raise ValueError(
                f"a schedule's name has letters, digits or any of _ . : -, which {name!r} has not: give it a name="
            )
        if name in self._schedules:
            raise ValueError(f"there is a schedule named {name!r} already: give this one another name=")
        _check(name, policies)
        job = json.loads(task.template(**(arguments or {})))
        self._schedules[name] = {**times, **policies, "job": job}


def _check(name: str, policies: Policies) -> None:
    """Raise ValueError for an invalid policy."""
    for policy, value, known in (
        ("missed", policies.get("missed"), Missed),
        ("overlap", policies.get("overlap"), Overlap),
    ):
        choices = [str(choice) for choice in known]
        if value is not None and value not in choices:
            raise ValueError(f"schedule {name!r}: {policy} is one of {', '.join(choices)}, not {value!r}")
    catch_up = policies.get("catch_up")
    if catch_up is not None and (type(catch_up) is not int or not 1 <= catch_up <= MAX_CATCH_UP):
        raise ValueError(f"schedule {name!r}: catch_up is a whole number from 1 to {MAX_CATCH_UP}, not {catch_up!r}")
    if catch_up is not None and policies.get("missed") != "all":
        raise ValueError(f"schedule {name!r}: catch_up goes with missed='all': give both, or neither")
