"""Parts that every taskd process needs: logs, signals, HTTP, metrics, and the handling of outages.

Limits: this package knows nothing of jobs, and none of its modules speaks to PostgreSQL, Redis or etcd.

Model: a process's life is in `lifecycle` (signals, drain, stop), its background work in `duty`, its HTTP server in `serve`
(with `embedded`, `heads`, `listener` and `stall`), its output in `log`, `sink` and `stdio`, its metrics in `meters`, its traces
in `tracing`. `outage` holds the health of one server, `discards` counts foreign values, `forks` and `processes` deal with
what tasks start, `failpoints` are for fault tests.

Failures: a log that cannot be written costs lines, never work. A duty that raises is logged and starts again. A server that
is away is logged once, and once again when it is back. A client that is slow, or sends nonsense, costs its own connection.
"""
