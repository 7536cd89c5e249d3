"""Explanations: why a job is not running or not finished.

Model: the store, the coordinator and the transport each give a part of a `Situation` (situation.py), the state of a job and of
everything that it may wait for, at one moment. `explain` (decide.py) runs the checks of the job's status over it, the most
causal first, and returns one `Explanation`: the first reason that holds, with its sentence and advice, and the others beside
it. The checks are in obstacles.py (waiting), past.py (earlier attempts), running.py and endings.py; reasons.py has the codes
and sentences, which docs/explain.md repeats and a test compares.

Limits: an explanation is true for the moment of its look. A part whose server is away is unknown, and checks that need it are
silent. Everything here is pure: no I/O and no clock.
"""
