"""Which columns of a table fit on the screen.

Valid ids and names are never cut: whole columns are left out instead. Values that are too long to
be valid are shortened, because one of them would push out all other columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass

_BORDER, _PADDING = 1, 3
"""A table has a border on its left; each column has a space on both sides and a border on its
right.
"""

_NARROWEST = 24
"""A column whose text may wrap needs this much room, unless it has less text."""


_SHORTENED = 11
"""How much is shown of a text that is too long to be valid."""

LONGEST_NAME = 128
"""The length of the longest valid name of a queue or a lane."""

LONGEST_WORKER_ID = 320
"""The length of the longest id of a worker: a host's name, numbers and separators."""


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    """The heading; it may have several lines."""
    rank: int
    """Columns with a lower rank get their room first. A column of rank 0 always stays."""
    wraps: bool = False
    """Its text may continue on the next line.

    Other text stays on one line, so that it can be copied.
    """
    may_be_empty: bool = True
    """Show it even if nothing is in it."""
    longest: int | None = 256
    """The length of the longest valid text. Longer texts are shortened. None: there is no limit."""

    @property
    def title(self) -> str:
        """The heading on one line."""
        return self.name.replace("\n", " ")


@dataclass(frozen=True)
class Layout:
    """The columns to show."""

    positions: list[int]
    widths: list[int]
    left_out: list[str]
    """Titles of the columns for which there is no room."""
    needed: int
    """The width of the table with all columns."""

    @property
    def width(self) -> int:
        """The width of the table. It may exceed the screen if the columns that always stay do."""
        return _total(self.widths)


def shorten(text: str, longest: int | None) -> str:
    """Return only the beginning of `text` if it is longer than any valid one."""
    return text if longest is None or len(text) <= longest else f"{text[:_SHORTENED]}…"


def arrange(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> Layout:
    """Choose the columns, and the width of each, for a screen of `width` columns."""
    from rich.cells import cell_len

    def natural(position: int) -> int:
        cells = [*columns[position].name.split("\n"), *(row[position] for row in rows)]
        return max(map(cell_len, cells))

    def least(position: int) -> int:
        return min(full[position], _NARROWEST) if columns[position].wraps else full[position]

    used = [n for n, column in enumerate(columns) if column.may_be_empty or any(row[n] for row in rows)]
    full = {position: natural(position) for position in used}
    shown: list[int] = []
    for position in sorted(used, key=lambda position: columns[position].rank):
        if columns[position].rank == 0 or _total([least(n) for n in (*shown, position)]) <= width:
            shown.append(position)
    shown.sort()
    widths = {position: least(position) for position in shown}
    spare = width - _total(list(widths.values()))
    for position in shown:
        more = max(0, min(spare, full[position] - widths[position]))
        widths[position] += more
        spare -= more
    left_out = [columns[position].title for position in used if position not in shown]
    return Layout(shown, [widths[n] for n in shown], left_out, _total([least(position) for position in used]))


def _total(widths: Sequence[int]) -> int:
    return _BORDER + sum(width + _PADDING for width in widths)
