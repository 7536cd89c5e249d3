"""Fault tests of a whole cluster: load, injected faults, a recorded history, and a check of the invariants.

Limits: a run shows only what its load and its faults reached. In a cluster of the user's, faults hit only the run's own
schedulers and workers. One machine and one clock: a history cannot be put together from several machines.

Model: `Traffic` submits the jobs of a `Workload` and records each request and response. `fault_plan` draws faults from a seed,
`FaultInjector` carries them out on a `Target` (a private cluster, or the user's), and `Observer` watches. `recording` copies
PostgreSQL's audit tables. All files of a run form a folder; `history` has its format, `records` its lines. The `checker`
decides from that folder alone. `runner` does one run, `verdict` and `view` show it. `taskd torture` runs it on the user's
machine, the fault tests in `tests/chaos` with scenarios of their own.

Guarantees: the same seed repeats the plan of faults, and the load until the first retry. A promise counts only if a
client got it in a response.

Failures: an unknown outcome of a submit is repeated under the same key until it is known. A run that breaks off leaves no
`meta.json`, and so no history. After a broken promise or a crash the processes' logs are kept beside the history.
"""
