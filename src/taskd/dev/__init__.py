"""The embedded cluster: a whole real cluster on one machine, for development, the demo and the tests.

PostgreSQL, Valkey (or Redis) and etcd run as children of this process, on loopback, with their data in one folder.
Nothing here is for production: the servers trust whoever can reach loopback.

A child never outlives its supervisor: the kernel signals it when the supervisor dies (Linux), or a watchdog does
that reads a pipe which only the supervisor holds open (elsewhere).
"""
