"""Proof by torture: traffic and faults on a real cluster leave a history, and a checker looks for broken promises in it.

Nothing here runs in production. Shared by the fault catalogue in `tests/chaos/` and by the command line.
"""
