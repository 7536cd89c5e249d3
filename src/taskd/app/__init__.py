"""What a task author imports: App collects tasks, Context tells a running task about its job,
Handle tells who submitted a job what became of it.

An executor process imports the author's module and talks to its App through the `Tasks` seam only.
"""

from taskd.app.app import App
from taskd.app.context import Context
from taskd.app.dependency import Depends
from taskd.app.handle import Handle, SyncHandle
from taskd.app.task import Task

__all__ = ["App", "Context", "Depends", "Handle", "SyncHandle", "Task"]
