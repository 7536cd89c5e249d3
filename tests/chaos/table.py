"""Texts and the table that show the catalogue's results."""

from __future__ import annotations

from rich.table import Table

from tests.chaos.run import Row


def verdict(row: Row) -> str:
    """Return one word for the result, with markup."""
    if row.left_out:
        return "[yellow]left out[/]"
    return "[green]passed[/]" if row.passed else "[bold red]FAILED[/]"


def complaints(row: Row) -> list[str]:
    """Return violations and complaints, a line each."""
    if row.left_out:
        return [row.left_out]
    lines = [f"{v.invariant}: job {v.job_id}: {v.message}" for v in row.violations[:5]]
    if len(row.violations) > 5:
        lines.append(f"… and {len(row.violations) - 5} more violations")
    return lines + row.complaints


def table(rows: list[Row]) -> Table:
    """Return the table of all rows."""
    table = Table(title="Fault catalogue", title_justify="left")
    for name in ("#", "scenario", "accepted", "lost", "doubled", "figures (bound)", "verdict"):
        table.add_column(name, justify="right" if name in ("#", "accepted", "lost", "doubled") else "left")
    for row in rows:
        bounds = row.scenario.bounds
        figures = ", ".join(
            f"{name} {value:.2f}" + (f" (≤ {bounds[name]:g})" if name in bounds else "")
            for name, value in row.figures.items()
        )
        counts = ("", "", "") if row.left_out else (str(row.accepted), str(row.lost), str(row.doubled))
        table.add_row(row.scenario.name, row.scenario.title, *counts, row.left_out or figures, verdict(row))
    return table
