"""The embedded cluster: a whole real cluster on one machine, for development, the demo and the tests.

Limits: not for production. The servers trust every process that can reach loopback. One supervisor uses a data folder at a
time. `DevCluster` and `StopSignals` belong to the main thread, and children live only as long as the thread that made them.

Model: PostgreSQL, Valkey (or Redis) and etcd (`servers`), schedulers and workers (`members`, described by `process_spec`) are
child processes on loopback, with data, logs and pid files in one `DataFolder`. `ChildProcess` starts one process through
`launcher`; `Restarter` keeps it alive; `DevCluster` does all of it for `taskd dev`, the demo and `taskd torture`. `Sandbox`
is the cluster of the pytest plugin. `running_cluster` is the file by which other commands find a cluster.

Guarantees: a child never outlives its supervisor. On Linux the kernel signals it when the supervisor dies. Elsewhere a
watchdog does, which reads a pipe that only the supervisor holds open. Accepted jobs survive a restart: PostgreSQL syncs.

Failures: a process that dies is started again, with growing delays. What a killed supervisor left behind is found by pid and
start time, and ended before the next start. Folder, ports and programs are checked before anything starts.
"""
