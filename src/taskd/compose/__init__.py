"""Composition: the one place that joins seams to implementations, and makes a scheduler and a worker of them.

Limits: no rules and no I/O of its own beyond the checks at start. Nothing imports this package but the command line.

Model: `scheduler.run_scheduler` and `worker.run_worker` each run one process until SIGTERM or SIGINT. They make the parts in
the order in which these need each other, and an AsyncExitStack ends them in the reverse order. `connections` gives each duty a
connection to PostgreSQL of its own. `startup` checks the servers, and has the contexts that both processes share.

Failures: at start, a process waits for PostgreSQL, and goes on without Redis and etcd. What waiting cannot repair (a schema
that does not fit, refused access, wrong settings) ends it with one TaskdError for the user. A process that is asked to stop
while it starts ends at once.
"""
