"""A worker: takes deliveries, claims them, runs them in executor processes, and settles how they ended.

User code never runs in the worker's own process, so nothing it does can starve the heartbeat. A worker that cannot renew its
session stops its tasks before anybody else may start them.
"""
