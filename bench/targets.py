"""The targets of the figures on two cores with all processes, and the floors for a noisy machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

Figures = Mapping[str, float]

#: The commands for figures that not every run has.
FULL = "make bench without QUICK=1"
LARGE = "make bench without QUICK=1 and LARGE=0"
PEER = "make bench without QUICK=1, where that peer is installed"


class Target(NamedTuple):
    """`target` is the aim and `floor` the limit that no run may miss, each as ">= 5" or "<= 5".

    `by` names the measuring command.
    """

    target: str
    floor: str = ""
    by: str = "make bench"


TARGETS = {
    "end to end, jobs/s": Target("", ">= 6000"),
    "end to end, of pgqueuer's": Target(">= 1.2", by=PEER),
    "end to end, of dramatiq's": Target(">= 3", by=PEER),
    "drain, of pgqueuer's": Target(">= 1.3", by=PEER),
    "drain, of graphile-worker's": Target(">= 0.9", by=PEER),
    "drain, plain, of celery's": Target(">= 2", by=PEER),
    "drain, plain, of dramatiq's": Target(">= 1", by=PEER),
    "POST /jobs, 100 connections, jobs/s": Target(">= 15000", ">= 5000"),
    "POST /jobs, 100 connections, p99, ms": Target("<= 15"),
    "POST /jobs, 5,000 a second, p99, ms": Target("<= 10"),
    "POST /jobs/batch of 1,000 on 4 connections, jobs/s": Target(">= 60000"),
    "idle, submit to start p50, ms": Target("<= 4", "<= 15"),
    "idle, submit to start p99, ms": Target("<= 10", "<= 60"),
    "submit_many of 1,000 from Python, jobs/s": Target(">= 60000"),
    "taskd.submit_many of 1,000 in SQL, jobs/s": Target(">= 60000"),
    "half load, submit to start p99, ms": Target("<= 50"),
    "half load, one by one, submit to start p99, ms": Target("<= 50"),
    "under 200 clients, dispatch p99, upper bound of its bucket, ms": Target("<= 100"),
    "under 200 clients, terms lost": Target("<= 0"),
    "dispatch lag of a delayed job p99, ms": Target("<= 20"),
    "urgent job behind a backlog, start, ms (max)": Target("<= 100", "<= 150"),
    "urgent job behind a backlog, overtaken by (max)": Target("<= 8"),
    "full tables, of the empty tables' rate": Target(">= 0.9", by=LARGE),
    "full tables, /metrics p99, ms": Target("<= 10", by=LARGE),
    "full tables, a job p99, ms": Target("<= 10", by=LARGE),
    "full tables, the first page of jobs p99, ms": Target("<= 10", by=LARGE),
    "full tables, Redis, MB more": Target("<= 5", by=LARGE),
    "workers until a core is full, of linear": Target(">= 0.95", by=FULL),
    "1,000 idle workers, scheduler + PostgreSQL + etcd, % of a core": Target("<= 10", by=FULL),
    "idle, statements/s": Target("<= 5", "<= 5"),
    "idle, scheduler CPU, % of a core": Target("<= 2", "<= 3"),
    "idle, worker CPU, % of a core": Target("<= 2", "<= 3"),
    "memory, scheduler, MB": Target("<= 120", "<= 150"),
    "memory, worker, MB": Target("<= 100", "<= 120"),
    "memory, executor, MB (max)": Target("<= 60", "<= 80"),
}


def holds(figure: float, bound: str) -> bool:
    """Return True if a figure keeps a bound such as `>= 6000`, or if there is no bound."""
    sign, _, value = bound.partition(" ")
    return not bound or (figure >= float(value) if sign == ">=" else figure <= float(value))


def bound(name: str) -> str:
    """Return the target of a figure, or, if it has none, its floor; "" for neither."""
    target = TARGETS.get(name, Target(""))
    return target.target or target.floor


def unmeasured(figures: Figures) -> dict[str, Target]:
    """Return the targets without a figure in this run."""
    return {name: target for name, target in TARGETS.items() if name not in figures}


def below(figures: Figures) -> list[str]:
    """Return the figures that missed their floor."""
    return [name for name, figure in figures.items() if name in TARGETS and not holds(figure, TARGETS[name].floor)]


def ratios(contest: dict[str, dict[str, list[float]]], plain: list[float]) -> dict[str, list[float]]:
    """Return taskd's figures as multiples of the peers', pass by pass.

    `plain` has taskd's drains of jobs that run in threads, in jobs/s.
    """
    multiples = {}
    for figure in ("end to end", "drain"):
        ours = contest["taskd"][f"{figure}, jobs/s"]
        for peer, theirs in contest.items():
            if peer != "taskd":
                pairs = zip(ours, theirs[f"{figure}, jobs/s"], strict=True)
                multiples[f"{figure}, of {peer}'s"] = [own / other for own, other in pairs]
    for peer in ("celery", "dramatiq"):
        if peer in contest:
            pairs = zip(plain, contest[peer]["drain, jobs/s"], strict=True)
            multiples[f"drain, plain, of {peer}'s"] = [own / other for own, other in pairs]
    return multiples
