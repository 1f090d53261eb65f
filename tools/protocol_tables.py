"""Write the tables of docs/protocol.md from what the core exports; with --check, only say whether
they are up to date.
"""

import argparse
import re
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ardiq_core import protocol

PAGE = Path(__file__).resolve().parents[1] / "docs" / "protocol.md"
COMMAND = "python tools/protocol_tables.py"
WIDTH = 100

Row = Mapping[str, str]
Tables = Mapping[str, Sequence[Row]]

_SECTION = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def render(page: str, tables: Tables) -> str:
    """Return the page with every marked section rewritten.

    Raises KeyError for a section that has no source.
    """
    sections = sections_of(tables)
    return _SECTION.sub(lambda match: f"{match[1]}\n{sections[match[2]]()}\n{match[3]}", page)


def sections_in(page: str) -> list[str]:
    """The names of the marked sections of a page, in order."""
    return [match[2] for match in _SECTION.finditer(page)]


def sections_of(tables: Tables) -> dict[str, Callable[[], str]]:
    """Return the functions that write each section, by name."""
    forms = {row["form"] for row in tables["forms"]}
    return {
        "keys": lambda: table(tables["keys"], code=("name",)),
        "records": lambda: table(tables["records"], code=("kind",)),
        "states": lambda: table(tables["states"], code=("state",)),
        "transitions": lambda: table(tables["transitions"], code=("from", "to", "by")),
        "versions": lambda: table(tables["versions"]),
        "scripts": lambda: scripts(tables["scripts"]),
        **{f"form-{form}": lambda form=form: form_table(tables["forms"], form) for form in forms},  # type: ignore[misc]
    }


def table(rows: Sequence[Row], *, code: Sequence[str] = ()) -> str:
    """Return a Markdown table. The columns in `code` are formatted as code."""
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        cells = [f"`{row[name]}`" if name in code and row[name] != "—" else row[name] for name in columns]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def form_table(rows: Sequence[Row], form: str) -> str:
    """Return the table of the fields of one binary form."""
    return table([{name: row[name] for name in row if name != "form"} for row in rows if row["form"] == form])


def scripts(rows: Sequence[Row]) -> str:
    """Return a part for each script: its purpose, its flags, and its signature as in its head."""
    parts: list[str] = []
    for row in rows:
        flags = f" Flags: `{row['flags']}`." if row["flags"] else ""
        signature = "\n".join(
            labelled(label, row[name])
            for label, name in (("KEYS", "keys"), ("ARGV", "arguments"), ("out", "out"))
            if row[name]
        )
        purpose = row["purpose"][:1].upper() + row["purpose"][1:]
        remarks = f"\n{row['remarks']}\n" if row["remarks"] else ""
        opening = textwrap.fill(f"{purpose}{flags}", WIDTH, break_long_words=False, break_on_hyphens=False)
        parts.append(f"### `{row['name']}`\n\n{opening}\n\n```text\n{signature}\n```\n{remarks}")
    return "\n".join(parts)


def labelled(label: str, text: str) -> str:
    """Return lines of text beside a label."""
    first, *others = text.split("\n")
    return "\n".join([f"{label:<6}{first}", *(f"{'':6}{line}" for line in others)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the page; the exit code says whether it was, or is, in order."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 when the page is stale")
    check: bool = parser.parse_args(arguments).check
    before = PAGE.read_text(encoding="utf-8")
    after = render(before, protocol())
    if check and after != before:
        print(f"{PAGE.name} does not show the protocol as it is; run: {COMMAND}", file=sys.stderr)
        return 1
    if after != before:
        PAGE.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
