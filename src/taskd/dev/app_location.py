"""The name under which a worker can load an app that a test has in hand, and the app's queues."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from taskd.app import App


def locate(app: App | str) -> tuple[str, App]:
    """Return the name by which a worker can load the app, and the app. Raises LookupError."""
    if isinstance(app, str):
        module_name, _, attribute = app.partition(":")
        loaded = getattr(importlib.import_module(module_name), attribute or "app", None)
        if isinstance(loaded, App):
            return app, loaded
        raise LookupError(f"{app!r} is not a taskd.App: name it as in taskd worker --app, package.module:attribute")
    for name, module in _homes_first(app):
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            if value is app and name != "__main__":
                return f"{name}:{attribute}", app
    raise LookupError(
        "the App is no variable of a module, so no worker can load it: write app = taskd.App() at its top level"
    )


def _homes_first(app: App) -> list[tuple[str, Any]]:
    """Return the modules of this process, those with tasks of the app first: a test's module imports the app only."""
    homes = {getattr(task.function, "__module__", None) for task in app.tasks.values()}
    return sorted(sys.modules.items(), key=lambda item: item[0] not in homes)


def queues_of(app: App) -> str:
    """Return "default" and the queues of the app's tasks, comma-separated."""
    return ",".join(dict.fromkeys(("default", *sorted(app.queues))))
