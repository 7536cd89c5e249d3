"""The command line: one module for each command. A command parses, calls and renders.

Limits: client commands know the HTTP API only. `migrate`, `doctor` and `token` speak to the servers themselves. `run`,
`schedule apply`, `worker` and `dev` load or start user code. No command changes a job behind the API's back.

Model: `main` has the executable, the global options and the exit statuses. `options` has the options that commands share and
makes the client. `server_defaults` finds the servers of a dev cluster in this folder where nothing is configured. `output`
writes everything to stdout and stderr: one JSON document with `--json`, otherwise text from `tables`, `jobview` and `sheet`.
Each command imports its dependencies inside its function, so that `taskd status` does not load a scheduler.

Failures: a failure is one line on stderr and an exit status: 1 failed, 2 wrong usage, 3 still running (`submit --wait`),
4 outcome unknown, 130 interrupted. A traceback is shown only with `--log-level DEBUG`. Secrets are masked, and control
characters are escaped in all output.
"""
