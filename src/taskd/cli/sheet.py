"""Tables with one line per row: cut to the width of a terminal, whole in a pipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from taskd.runtime.terminal import clean_line

#: Columns between two cells; fewer where that saves a cut.
GAP, TIGHT = 3, 2
#: The longest rule below a heading.
LONGEST_RULE = 120


class Column(NamedTuple):
    """One column. `least`: the width down to which it is cut before a column is left out.

    `rank`: the column with the highest rank is left out first, a column of rank 0 never.
    """

    name: str
    rank: int = 0
    least: int = 8


class Sheet:
    """A heading, a rule, and rows of one line each. On a terminal, columns that do not fit are left out or cut."""

    def __init__(self, *columns: Column | str) -> None:
        self._columns = [Column(column) if isinstance(column, str) else column for column in columns]
        self._rows: list[list[Text]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add_row(self, *cells: object) -> None:
        """Add one row; a Text keeps its style."""
        self._rows.append([_line(cell) for cell in cells])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = [
            max([len(column.name), *(row[place].cell_len for row in self._rows)])
            for place, column in enumerate(self._columns)
        ]
        gap = GAP
        if console.is_terminal:
            kept, widths, gap = _fit(self._columns, widths, options.max_width)
        else:
            kept = list(range(len(self._columns)))
        names = [Text(column.name, "bold") for column in self._columns]
        rule = "─" * min(sum(widths) + gap * (len(widths) - 1), options.max_width, LONGEST_RULE)
        for line in (_joined(names, kept, widths, gap), Text(rule), *self._lines(kept, widths, gap)):
            yield from console.render(line, options.update(no_wrap=True, overflow="ignore"))

    def _lines(self, kept: Sequence[int], widths: Sequence[int], gap: int) -> Iterator[Text]:
        for row in self._rows:
            yield _joined(row, kept, widths, gap)


def _line(cell: object) -> Text:
    if isinstance(cell, Text):
        return cell
    return Text(clean_line(str(cell)))


def _fit(columns: Sequence[Column], natural: Sequence[int], room: int) -> tuple[list[int], list[int], int]:
    """Return the columns that are kept, their widths, and the gap."""
    kept = list(range(len(columns)))
    if sum(natural) + GAP * (len(kept) - 1) <= room:
        return kept, list(natural), GAP
    while True:
        widths = [natural[place] for place in kept]
        least = [min(natural[place], columns[place].least) for place in kept]
        over = sum(widths) + TIGHT * (len(kept) - 1) - room
        if sum(least) + TIGHT * (len(kept) - 1) <= room or not any(columns[place].rank for place in kept):
            break
        kept.remove(max(kept, key=lambda place: columns[place].rank))
    for _ in range(max(0, over)):
        widest = max(range(len(kept)), key=lambda place: widths[place] - least[place])
        if widths[widest] == least[widest]:  # narrower than the least widths: the terminal cuts
            break
        widths[widest] -= 1
    return kept, widths, TIGHT


def _joined(cells: Sequence[Text], kept: Sequence[int], widths: Sequence[int], gap: int) -> Text:
    parts = []
    for place, width in zip(kept, widths, strict=True):
        cell = cells[place].copy()
        cell.truncate(width, overflow="ellipsis", pad=True)
        parts.append(cell)
    line = Text(" " * gap).join(parts)
    line.rstrip()
    return line
