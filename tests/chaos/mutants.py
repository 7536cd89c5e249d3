"""Copies of taskd with one protection switched off each. The checker and the bounds must catch every one of them.

A mutant is applied at the start of a process (`mutated.py`), and only of a test's processes: the code of taskd has no
part in it. `make mutants` (`python -m tests.chaos.mutants`) runs each mutant in the scenario that should catch it.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from tests.chaos import patches

if TYPE_CHECKING:
    from tests.chaos.run import Row

#: Runs of a scenario for one mutant: some breakages show only in a race.
TRIES = 2


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One protection that is off.

    `apply` runs before taskd is imported. `scenario` must catch the mutant by one of the invariants or bounds in `by`. Any
    other failure, such as a cluster that does not start, does not count.
    """

    title: str
    scenario: str
    by: tuple[str, ...]
    apply: Callable[[], None]
    environment: Mapping[str, str] = field(default_factory=dict)


#: Makes a leader without a fence wait for its predecessor's firing, and continue after it.
WAIT_FOR_ROWS = [("FOR UPDATE SKIP LOCKED", "FOR UPDATE")]
LOCK = [("holder = %(holder)s FOR SHARE", "holder = %(holder)s")]
EXPIRED = "SELECT id FROM taskd.sessions WHERE ended_at IS NULL AND expires_at < %(before)s::timestamptz FOR UPDATE"
OVERWRITE = (
    "ON CONFLICT (schedule, fire_at) DO UPDATE SET"
    " fired_at = excluded.fired_at, state = excluded.state, job_id = excluded.job_id"
)
UNFENCED = "SELECT CASE WHEN taskd.session_of(%(job)s::bigint, %(attempt)s::int) IS NOT NULL THEN taskd.complete("
ALONE = """(j.losses < %(suspect_after)s OR (%(alone)s AND NOT EXISTS (
                  SELECT FROM taskd.jobs c WHERE c.session_id = %(session)s AND c.status = 'running')))"""
NO_COMPANY = """NOT EXISTS (
                   SELECT FROM taskd.jobs c
                   WHERE c.session_id = u.session AND c.status = 'running' AND c.id <> u.id)"""
KEYS = (
    "    INSERT INTO taskd.dedupe_keys AS k (key, job_id)\n"
    "    SELECT DISTINCT ON (dedupe_key) dedupe_key, id FROM timed WHERE dedupe_key IS NOT NULL ORDER BY dedupe_key, place\n"
    "    ON CONFLICT (key) DO UPDATE SET key = k.key\n"
    "    RETURNING k.key, k.job_id"
)

MUTANTS: dict[str, Mutant] = {
    "no-row-lock": Mutant(
        title="the leader's fence without the row lock",
        scenario="3b",
        by=("I7",),
        apply=patches.edit_statements(dict.fromkeys(("dispatch", "reoffer", "end_expired", "free_jobs"), LOCK)),
    ),
    "no-shards": Mutant(
        title="leaders that dispatch the queues of every shard",
        scenario="1a",
        by=("I7",),
        apply=patches.ignore_shards,
        environment={"TASKD_SCHEDULER__SHARDS": "3"},
    ),
    "no-dispatch-seq": Mutant(
        title="claim without dispatch_seq",
        scenario="10f",
        by=("I8",),
        apply=patches.edit_statements({"claim": [(" AND j.dispatch_seq = u.seq", "")]}),
    ),
    "settle-by-status": Mutant(
        title="settle by status only",
        scenario="7a",
        by=("I5", "I6"),
        apply=patches.edit_statements({"settle": [("AND j.attempt = e.attempt AND j.session_id = e.session ", "")]}),
    ),
    "xack-first": Mutant(
        title="XACK before the claim is decided",
        scenario="9a",
        by=("re-offered",),
        apply=patches.acknowledge_before_claim,
    ),
    "reaper-subselect": Mutant(
        title="a reaper with now() in a sub-select",
        scenario="7c",
        by=("I15",),
        apply=patches.edit_statements(
            {
                "end_expired": [
                    (EXPIRED, "SELECT %(before)s::timestamptz"),
                    (
                        "FROM expired WHERE s.id = expired.id AND",
                        "WHERE s.id IN (SELECT id FROM taskd.sessions WHERE ended_at IS NULL AND expires_at < now()) AND",
                    ),
                ]
            }
        ),
    ),
    "no-grace": Mutant(title="no grace after an outage", scenario="13d", by=("I15",), apply=patches.remove_grace),
    "group-at-end": Mutant(
        title="a group made at $", scenario="10c", by=("re-offered",), apply=patches.create_group_at_end
    ),
    "attempt-by-reap": Mutant(
        title="attempt raised by claim and by reap",
        scenario="6a",
        by=("I4",),
        apply=patches.edit_statements(
            {"free_jobs": [("losses = j.losses + 1,", "losses = j.losses + 1, attempt = j.attempt + 1,")]}
        ),
    ),
    "losses-in-company": Mutant(
        title="jobs that lost workers run beside others, whose losses count against them",
        scenario="38",
        by=("I12",),
        apply=patches.edit_statements({"claim": [(ALONE, "true")], "free_jobs": [(NO_COMPANY, "true")]}),
    ),
    "no-dedupe": Mutant(
        title="the dedupe index dropped",
        scenario="29",
        by=("I1", "I10"),
        apply=patches.edit_statements(
            {"submit": [(KEYS, "    SELECT dedupe_key AS key, id AS job_id FROM timed WHERE dedupe_key IS NOT NULL")]}
        ),
    ),
    "no-fire-fence": Mutant(
        title="a firing without the row lock of the leader's fence",
        scenario="34b",
        by=("I7",),
        apply=patches.edit_statements(
            {**dict.fromkeys(("fire_waiting", "close_fires", "forget_fires"), LOCK), "fire": LOCK + WAIT_FOR_ROWS}
        ),
    ),
    "no-tick-row": Mutant(
        title="ticks without a row that decides, without a fence and without a check of earlier decisions",
        scenario="34b",
        by=("I16",),
        apply=patches.edit_statements(
            {
                "fire": [
                    *LOCK,
                    *WAIT_FOR_ROWS,
                    (" AND s.decided_until = i.decided_until", ""),
                    ("ON CONFLICT DO NOTHING", OVERWRITE),
                ]
            }
        ),
    ),
    "no-overlap": Mutant(
        title="overlap not checked",
        scenario="34a",
        by=("I16",),
        apply=patches.edit_statements(
            {"fire": [("h.overlap <> 'allow' AND EXISTS (", "h.overlap <> 'allow' AND false AND EXISTS (")]}
        ),
    ),
    "note-by-status": Mutant(
        title="checkpoints of any worker, while the job runs",
        scenario="35b",
        by=("I18",),
        apply=patches.edit_statements({"note": [("AND j.attempt = n.attempt AND j.session_id = n.session ", "")]}),
    ),
    "dear-snoozes": Mutant(
        title="snoozes that count as failures",
        scenario="35a",
        by=("I12",),
        apply=patches.count_snoozes_as_failures,
    ),
    "lock-lost-in-silence": Mutant(
        title="attempts that lost a lock run on",
        scenario="35c",
        by=("I11",),
        apply=patches.ignore_lost_locks,
    ),
    "no-fence-in-transactions": Mutant(
        title="a task's transaction that commits without its claim",
        scenario="37",
        by=("strayed",),
        apply=patches.edit_statements(
            {"complete": [("SELECT taskd.complete(", UNFENCED), ("%(progress)s::json)", "%(progress)s::json) END")]}
        ),
    ),
    "no-self-fencing": Mutant(
        title="no guard over the lease",
        scenario="7a",
        by=("I6",),
        apply=patches.remove_guard_lease,
    ),
    "output-unfenced": Mutant(
        title="output without its claim",
        scenario="7a",
        by=("I19",),
        apply=patches.edit_statements({"log": [("    WHERE EXISTS (\n", "    WHERE true OR EXISTS (\n")]}),
    ),
}


def main() -> int:
    """Run every mutant, or those that MUTANT names (separated by commas); return 0 if each was caught."""
    from tests.chaos.catalogue import select  # noqa: PLC0415  a mutated process must not import it
    from tests.chaos.run import run  # noqa: PLC0415
    from tests.servers import temporary_folder  # noqa: PLC0415

    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1, 10**6))
    wanted = [name for name in os.environ.get("MUTANT", "").split(",") if name] or list(MUTANTS)
    console = Console(width=None if sys.stdout.isatty() else 160)
    table = Table(title="Mutants", title_justify="left")
    for column in ("mutant", "protection that is off", "scenario", "caught by", "verdict"):
        table.add_column(column)
    missed = 0
    began = time.monotonic()

    def hunt(name: str, folder: Path) -> tuple[Row, str]:
        (scenario,) = select(MUTANTS[name].scenario)
        environment = {**scenario.shape.environment, **MUTANTS[name].environment, "TASKD_MUTANT": name}
        shape = replace(scenario.shape, environment=environment)
        for number in range(TRIES):
            row = run(replace(scenario, shape=shape, tidy=False), seed + number, folder / str(number))
            if caught := caught_by(row, MUTANTS[name].by):
                return row, caught
        return row, ""

    with temporary_folder() as folder:
        for name in wanted:
            row, caught = hunt(name, folder / name)
            missed += not caught
            shutil.rmtree(folder / name, ignore_errors=True)
            console.print(f"  {name}: {caught or 'NOT CAUGHT'} ({row.seconds:.0f} s)", highlight=False, markup=False)
            for line in [] if caught else row.complaints:
                console.print(f"       {line}", highlight=False, markup=False)
            verdict = "[green]caught[/]" if caught else "[bold red]NOT CAUGHT[/]"
            table.add_row(name, MUTANTS[name].title, row.scenario.name, caught, verdict)
    console.print(table)
    caught_n, minutes = len(wanted) - missed, (time.monotonic() - began) / 60
    console.print(f"seed {seed}: {caught_n} of {len(wanted)} mutants caught, in {minutes:.1f} min")
    return 1 if missed else 0


def caught_by(row: Row, by: Collection[str]) -> str:
    """Return the named invariants and bounds that a run violated; empty if none."""
    counts = Counter(violation.invariant for violation in row.violations)
    violated = [f"{name} x {n}" for name, n in sorted(counts.items()) if name in by]
    violated += [complaint for complaint in row.complaints if complaint.partition(" is ")[0] in by]
    return ", ".join(violated) if row.accepted else ""


if __name__ == "__main__":
    sys.exit(main())
