"""What the figures are to reach on two cores with everything on them, and what they must not fall below on a noisy machine."""

from __future__ import annotations

from typing import NamedTuple

from bench.figures import Figures


class Target(NamedTuple):
    """`target` is what we want, `floor` what may never happen, each as ">= 5" or "<= 5"."""

    target: str
    floor: str = ""


TARGETS = {
    "end to end, jobs/s": Target("", ">= 6000"),
    "end to end, of pgqueuer's": Target(">= 1.2"),
    "end to end, of dramatiq's": Target(">= 3"),
    "drain, of pgqueuer's": Target(">= 1.3"),
    "drain, of graphile-worker's": Target(">= 0.9"),
    "drain, plain, of celery's": Target(">= 2"),
    "drain, plain, of dramatiq's": Target(">= 1"),
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
    "under 200 clients, dispatch p99, at most ms": Target("<= 100"),
    "under 200 clients, terms lost": Target("<= 0"),
    "dispatch lag of a delayed job p99, ms": Target("<= 20"),
    "urgent job behind a backlog, start, ms (max)": Target("<= 100", "<= 150"),
    "urgent job behind a backlog, overtaken by (max)": Target("<= 8"),
    "full tables, of the empty tables' rate": Target(">= 0.9"),
    "full tables, /metrics p99, ms": Target("<= 10"),
    "full tables, a job p99, ms": Target("<= 10"),
    "full tables, the first page of jobs p99, ms": Target("<= 10"),
    "full tables, Redis, MB more": Target("<= 5"),
    "workers until a core is full, of linear": Target(">= 0.95"),
    "1,000 idle workers, scheduler + PostgreSQL + etcd, % of a core": Target("<= 10"),
    "idle, statements/s": Target("<= 5", "<= 5"),
    "idle, scheduler CPU, % of a core": Target("<= 2", "<= 3"),
    "idle, worker CPU, % of a core": Target("<= 2", "<= 3"),
    "memory, scheduler, MB": Target("<= 120", "<= 150"),
    "memory, worker, MB": Target("<= 100", "<= 120"),
    "memory, executor, MB (max)": Target("<= 60", "<= 80"),
}


def holds(figure: float, bound: str) -> bool:
    """Whether a figure keeps a bound such as `>= 6000`; any figure keeps none at all."""
    sign, _, value = bound.partition(" ")
    return not bound or (figure >= float(value) if sign == ">=" else figure <= float(value))


def ratios(contest: dict[str, dict[str, list[float]]], figures: Figures) -> dict[str, list[float]]:
    """Our figures as multiples of the peers', pass by pass."""
    found = {}
    for figure in ("end to end", "drain"):
        ours = contest["taskd"][f"{figure}, jobs/s"]
        for peer, theirs in contest.items():
            if peer != "taskd":
                pairs = zip(ours, theirs[f"{figure}, jobs/s"], strict=True)
                found[f"{figure}, of {peer}'s"] = [own / other for own, other in pairs]
    for peer in ("celery", "dramatiq"):
        if peer in contest:
            drained = contest[peer]["drain, jobs/s"]
            found[f"drain, plain, of {peer}'s"] = [figures["drain, plain, jobs/s"] / other for other in drained]
    return found
