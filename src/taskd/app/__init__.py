"""What a task author imports: App collects tasks, Context tells a running task about its job.

An executor process imports the author's module and talks to its App through the `Tasks` seam only.
"""

from taskd.app.app import App
from taskd.app.context import Context
from taskd.app.task import Task

__all__ = ["App", "Context", "Task"]
