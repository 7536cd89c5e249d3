"""The API of task authors: an App collects tasks, and runs them for executors.

Model: `@app.task` makes a Task of a function. Its submit methods check the arguments, make a payload (JSON) of them, and send
a job to the schedulers, or store it on a connection of the caller's; they return a Handle. An executor process imports the
author's module and uses its App through the `Tasks` seam only: `prepare` binds an order's payload to the function, with the
Context, the values of providers (ExecutorScope, AttemptScope) and the middlewares (MiddlewareChain) around it.

Guarantees: a payload that passes `submit` is read back as the same values, by the annotations of the function; a type whose
values would arrive as something else is refused where the task is defined. A submit over HTTP is repeated with one key, so a
lost response makes no second job. A job that is submitted on a connection exists if and only if that transaction commits.

Failures: TypeError for arguments and annotations that cannot travel, InvalidJob for an invalid option, ClientError if no
scheduler answers; Fail for a payload that does not fit, before the function runs. A provider's error has the provider's name.

Limits: values travel as JSON. Annotations must be readable at run time. Type checkers recognise the Context as the first
positional parameter only. Connections belong to a process and an event loop; each gets its own.

`app.builtin` has the tasks of taskd itself, `app.testing` runs attempts inside a test. No module here imports PostgreSQL's
driver or the asynchronous HTTP client before their first use.
"""

from taskd.app.app import App
from taskd.app.context import Context
from taskd.app.dependency import Depends
from taskd.app.handle import Handle, SyncHandle
from taskd.app.task import Task

__all__ = ["App", "Context", "Depends", "Handle", "SyncHandle", "Task"]
