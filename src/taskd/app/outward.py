"""The tasks that reach out of taskd, for workers whose operator switches them on."""

from __future__ import annotations

from taskd.app.app import App
from taskd.settings import Tasks


def build(settings: Tasks) -> App:
    """An App with what is switched on. Raises ValueError for a setting that cannot be used."""
    app = App()
    if settings.command_allow:
        from taskd.app.programs import Programs  # noqa: PLC0415  few workers need it

        app.task(name="command")(Programs(settings).command)
    if settings.http_allow:
        from taskd.app.calls import Calls  # noqa: PLC0415  few workers need it

        app.task(name="http")(Calls(settings).http)
    return app
