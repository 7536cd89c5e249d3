"""Proof by mistreatment: traffic that remembers what it was promised, a history, and a checker of the invariants.

`taskd torture` runs it on the user's machine, the fault tests in `tests/chaos/` on one of their own. A run leaves a folder
(`history.py` has its format), and the checker decides over that folder alone, whatever was done to the cluster meanwhile.
"""
