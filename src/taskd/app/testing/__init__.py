"""Runs single attempts of tasks inside a test, without servers: `app.testing()` returns a Bench.

Model: a Bench binds a payload to a task as an executor does, and gives it a Context whose link writes to a Run. Jobs that the
task submits are recorded in the Run. Their handles answer from the record, because the bench's clients replace those of every
App while the attempt runs (`taskd.app.client_pool.standing_in`).

Guarantees: arguments and results travel as JSON and are checked as in a worker. Nothing reaches a scheduler, also not from
threads that the task starts. The values of providers are closed after each run.

Failures: an exception of the task is kept in the Run and raised by its `result`. Arguments that a submit would refuse raise
TypeError from `run`.

Limits: no retries, time-outs or limits of size, and no cancel while the attempt runs. A lock excludes attempts of the same
bench only. A transaction is a block on the test's own connection and completes no job.
"""

from taskd.app.testing.bench import Bench
from taskd.app.testing.recorded_jobs import Child
from taskd.app.testing.run import Run

__all__ = ["Bench", "Child", "Run"]
