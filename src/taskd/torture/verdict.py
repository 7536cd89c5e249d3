"""The verdict on a run, as values and as text. It is derived from the history alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from time import localtime, strftime

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from taskd.dev.restarter import describe
from taskd.runtime.console import styled
from taskd.torture import figures
from taskd.torture.checker import INVARIANTS, Ledger, examine
from taskd.torture.faultlog import kinds
from taskd.torture.figures import FINAL
from taskd.torture.history import History

#: The invariants in few words; docs/invariants.md has them in full.
PROMISES = {
    "I1": "every accepted job is there, once",
    "I2": "jobs move in legal steps, none missing",
    "I3": "nothing follows the end of a job",
    "I4": "only a start counts as an attempt",
    "I5": "an attempt is ended once, and only by its owner",
    "I6": "no two attempts of a job ran at once",
    "I7": "one leader at a time",
    "I8": "nothing runs before it is due, or twice for one dispatch",
    "I9": "the best waiting job goes first",
    "I10": "one key, one job",
    "I11": "a lock has one holder at a time",
    "I12": "retries keep to their limits and waits",
    "I13": "cancelled jobs stay cancelled",
    "I14": "in the end every job is over",
    "I15": "no living worker is taken for dead",
    "I16": "a schedule's tick makes one job",
    "I17": "a stopping worker takes nothing new",
    "I18": "a checkpoint is kept, and never goes back",
    "I19": "an attempt that lost its job adds no output",
}
CHECKER = "python -m taskd.torture.checker"


class Promise(msgspec.Struct, frozen=True):
    """One invariant, with the numbers of things examined and of violations."""

    name: str
    says: str
    looked: int
    broken: int


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The whole run. `ended` counts accepted jobs by their last status; `clean`: no promise was broken."""

    clean: bool
    seed: int | None
    seconds: float
    accepted: int
    ended: dict[str, int]
    lost: int
    unfinished: int
    doubled: int
    repeated: int
    faults: dict[str, int]
    longest_pause: float
    pause_began: float
    #: Processes that ended with an error that no fault had caused.
    crashed: list[str]
    promises: list[Promise]
    #: The problems, a sentence each.
    troubles: list[str]


def judge(history: History) -> Verdict:
    """Check a history and return the verdict."""
    ledger = examine(history)
    accepted = figures.accepted(history)
    status_of = {row.id: row.status for row in history.jobs}
    ended = Counter(status_of[job] for job in accepted if job in status_of)
    unfinished = sum(count for status, count in ended.items() if status not in FINAL)
    lost, doubled = figures.lost(history) - unfinished, figures.doubled(history)
    troubles = _troubles(ledger, lost=lost, unfinished=unfinished, doubled=doubled, quiet=history.meta.quiet)
    if undecided := figures.undecided(history):
        troubles.append(f"{_many(undecided, 'submit')} never got an answer, despite all repetitions")
    since, until = history.meta.load_from, history.meta.load_until
    return Verdict(
        clean=not troubles,
        seed=history.meta.seed,
        seconds=until - since,
        accepted=len(accepted),
        ended=dict(ended.most_common()),
        lost=lost,
        unfinished=unfinished,
        doubled=doubled,
        repeated=figures.repeated(history),
        faults=dict(kinds(history.faults).most_common()),
        longest_pause=figures.gap(history, since, until),
        pause_began=figures.gap_began(history, since, until),
        crashed=[f"{fault.target} ({describe(fault.status)})" for fault in figures.crashes(history)],
        promises=_promises(ledger),
        troubles=troubles,
    )


def _promises(ledger: Ledger) -> list[Promise]:
    broken = Counter(violation.invariant for violation in ledger.violations)
    return [Promise(i, PROMISES[i], ledger.examined[i], broken[i]) for i in INVARIANTS]


def _troubles(ledger: Ledger, *, lost: int, unfinished: int, doubled: int, quiet: bool) -> list[str]:
    problems = []
    if lost:
        problems.append(f"{_many(lost, 'job')} lost: accepted, and gone")
    if doubled:
        problems.append(f"{_many(doubled, 'job')} doubled: ended more than once")
    if unfinished:
        problems.append(f"{_many(unfinished, 'job')} not finished when the cluster had been whole for a minute")
    elif not quiet:
        problems.append("the cluster did not come to rest within a minute of being whole")
    broken = Counter(violation.invariant for violation in ledger.violations)
    for invariant, count in broken.items():
        first = next(v for v in ledger.violations if v.invariant == invariant)
        job = "" if first.job_id is None else f"job {first.job_id}: "
        problems.append(f"{invariant} broken {_times(count)}, first: {job}{first.message}")
    return problems


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


# -------------------------------------------------------------------- as text


CRASHED = "crashed"


def show(out: Console, verdict: Verdict, folder: Path) -> None:
    """Print the verdict."""
    grid = Table.grid(padding=(0, 2))
    for name, text in _summary(verdict):
        grid.add_row(styled(name, "bold"), styled(text, "yellow" if name == CRASHED else ""))
    out.print()
    out.print(grid)
    out.print()
    out.print(_table(verdict.promises))
    out.print()
    if verdict.clean:
        out.print("nothing lost, nothing doubled", style="bold green")
    for problem in verdict.troubles:
        out.print(styled(problem, "bold red"))
    out.print(styled(f"\nThe history is in {folder}: every submit, fault, transition and run. To check it again:"))
    out.print(styled(f"  {CHECKER} {folder}"))


def _summary(verdict: Verdict) -> list[tuple[str, str]]:
    ended = ", ".join(f"{count:,} {status}" for status, count in verdict.ended.items())
    faults = ", ".join(f"{name} {count}" for name, count in verdict.faults.items())
    began = strftime("%H:%M:%S", localtime(verdict.pause_began))
    rows = [
        ("load", f"{verdict.seconds:.0f} s, seed {verdict.seed}"),
        ("jobs", f"{verdict.accepted:,} accepted" + (f": {ended}" if ended else "")),
        ("faults", f"{sum(verdict.faults.values())}" + (f": {faults}" if faults else "")),
        ("repeated", f"{verdict.repeated:,} attempts were cut short by faults and made again"),
        ("longest pause", f"{verdict.longest_pause:.1f} s without a dispatch, from {began} on"),
    ]
    if verdict.crashed:
        rows.append(
            (
                CRASHED,
                f"{', '.join(verdict.crashed)}: no fault had killed it; see the logs beside the history",
            )
        )
    return rows


def _table(promises: list[Promise]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("")
    table.add_column("promise")
    table.add_column("looked at", justify="right")
    table.add_column("")
    for promise in promises:
        table.add_row(promise.name, promise.says, f"{promise.looked:,}", _word(promise))
    return table


def _word(promise: Promise) -> Text:
    if promise.broken:
        return Text(f"BROKEN {_times(promise.broken)}", "bold red")
    return Text("held", "green") if promise.looked else Text("nothing to look at", "dim")
