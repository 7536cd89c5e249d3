"""Fault tests of a whole cluster, with the tools to break links, disks and clocks (docs/fault-tests.md).

`catalogue` lists the scenarios and `run` runs one: it starts a `World` (servers, schedulers, workers, traffic),
injects the scenario's faults, repairs everything, waits until the cluster is quiet, records the history and has
the checker judge it. `mutants` shows that the checker finds what each protection prevents.
"""
