"""Tests of schedules that an App declares, and of their checks."""

from __future__ import annotations

from typing import Any, cast

import pytest

from taskd import App


def test_a_declaration_is_what_the_api_takes() -> None:
    app = App()

    @app.every(30, name="pulse", arguments={"month": "this"}, missed="all", catch_up=3)
    @app.cron("0 6 1 * *", tz="Europe/Berlin", overlap="queue")
    @app.task(queue="reports", priority=3, timeout=60)
    def report(month: str = "last") -> str:
        return month

    assert report("may") == "may"
    job = {"task": "report", "queue": "reports", "priority": 3, "timeout": 60}
    assert app.schedules == {
        "report": {
            "cron": "0 6 1 * *",
            "tz": "Europe/Berlin",
            "overlap": "queue",
            "job": {"payload": {}, **job},
        },
        "pulse": {"every": 30, "missed": "all", "catch_up": 3, "job": {"payload": {"month": "this"}, **job}},
    }


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda app: app.cron("* * *"), r"'\* \* \*' is no cron expression"),
        (lambda app: app.cron("* * * * *", tz="Mars"), "'Mars' is no time zone"),
        (lambda app: app.every(0.5), "an interval is from 1 to"),
        (lambda app: app.every("5"), "an interval is from 1 to"),
    ],
)
def test_times_that_cannot_be_are_refused(declare: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        declare(App())


def test_arguments_that_do_not_fit_the_task_are_refused() -> None:
    app = App()

    @app.task
    def report(month: str) -> None:
        pass

    with pytest.raises(TypeError, match="month"):
        app.every(5)(report)
    with pytest.raises(TypeError, match=r"write @app\.task below the schedule"):
        app.every(5)(cast(Any, print))
    app.every(5, arguments={"month": "may"})(report)
    with pytest.raises(ValueError, match="there is a schedule named 'report' already"):
        app.every(6, arguments={"month": "may"})(report)
    with pytest.raises(ValueError, match="give it a name="):
        app.every(6, name="a/b", arguments={"month": "may"})(report)
