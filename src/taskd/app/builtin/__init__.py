"""The built-in tasks: those of a worker without an app, and two that call out of taskd where the operator allows it.

`app` has `default`, `echo`, `sleep` and `fail`, for a first look at a cluster. `optional.build` makes an App of `command` (runs
a program) and `http` (calls a URL) by the section [tasks] of the settings; neither exists unless its list of allowed targets
is set.

Guarantees: `command` runs only listed programs, without a shell and with an environment that has none of the worker's
secrets. `http` connects only to listed URLs, and to private addresses only in listed networks; the address that was checked is
the address that is called. An answer with a status is final: its body is cut, decoded or replaced, but never makes the job
call again.

Failures: a target that is not listed fails the job for good. Another exit status than 0, a connection error, a time-out, and
the statuses 408, 425, 429 and 5xx fail the attempt; any other status but 2xx fails the job.

Limits: no redirects, no proxies, no streaming. Results keep the beginning of an output or body, at most
`tasks.command_max_output` and `tasks.http_max_response` bytes, and fit in `worker.max_result_bytes`.
"""

from taskd.app.builtin.basic import app

__all__ = ["app"]
