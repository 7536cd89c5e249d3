"""The tasks `command` and `http`, for workers whose operator switches them on."""

from __future__ import annotations

from taskd.app.app import App
from taskd.settings import TaskSettings, WorkerSettings


def build(settings: TaskSettings, max_result: int = WorkerSettings().max_result_bytes) -> App:
    """Return an App with the tasks that are switched on, whose results have at most `max_result` bytes.

    Raises ValueError for an invalid setting.
    """
    app = App()
    if settings.command_allow:
        from taskd.app.builtin.command import CommandTask  # noqa: PLC0415 - few workers need it

        app.task(name="command")(CommandTask(settings, max_result).command)
    if settings.http_allow:
        from taskd.app.builtin.http import HttpTask  # noqa: PLC0415 - few workers need it

        app.task(name="http")(HttpTask(settings, max_result).http)
    return app
