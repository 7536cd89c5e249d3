"""The tasks that reach out of taskd, for workers whose operator switches them on."""

from __future__ import annotations

from taskd.app.app import App
from taskd.settings import TaskSettings, WorkerSettings


def build(settings: TaskSettings, max_result: int = WorkerSettings().max_result_bytes) -> App:
    """An App with the tasks that are switched on, whose results have at most `max_result` bytes.

    Raises ValueError for a setting that cannot be used.
    """
    app = App()
    if settings.command_allow:
        from taskd.app.programs import Programs  # noqa: PLC0415  few workers need it

        app.task(name="command")(Programs(settings, max_result).command)
    if settings.http_allow:
        from taskd.app.calls import Calls  # noqa: PLC0415  few workers need it

        app.task(name="http")(Calls(settings, max_result).http)
    return app
